# Puts workers back into the queue. The shell of a job reads it after the site's `setup`, where they may be requeued.
#
# The shell does it, as a worker often cannot: in a container there is no scontrol, one that is killed does nothing any
# more, and of several processes srun ends all when one is killed. This function takes the place of srun, and not a trap
# that of EXIT, so that `setup` can have traps of its own but for TERM, USR1 and USR2. An alias of srun stays, too.
MOST_RESTARTS=30
# How often it asks a controller that does not answer, and the seconds between: a restart takes minutes at most.
MOST_REQUESTS=20
BETWEEN_REQUESTS=15

function srun {
    local code=0 terminated="" job="" cancelled="" why="" answer="" requests=1
    local task="${SLURM_ARRAY_TASK_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"
    trap 'terminated=yes' TERM
    trap : USR1 USR2 # for the worker, but `scancel --full` sends it to this shell, too
    command srun "$@" || code=$?
    trap '' TERM USR1 USR2 # SLURM may signal scontrol, too

    if [ -n "$terminated" ] || [ "$code" -eq 75 ]; then
        job=$(scontrol show job --oneliner "$task") || job=""
    fi
    # SLURM ends a job: it was cancelled, or is requeued by SLURM itself. At its time limit it may still come back.
    if [ -n "$terminated" ] && ! [[ $job =~ JobState=RUNNING|Reason=TimeLimit ]]; then
        cancelled=yes
    fi

    if [ -n "$cancelled" ]; then
        :
    elif [ "$code" -eq 76 ]; then # the worker asks for it (slurm/array_task.py)
        why="the next worker continues from the checkpoint"
    elif [ "$code" -eq 75 ] && [[ $job =~ JobState=RUNNING.*PreemptTime=[0-9] ]]; then
        # In a time of grace. SLURM requeues only what still runs at its end.
        why="preempted, the next worker continues from the checkpoint"
    elif [ "$code" -gt 128 ] && [ "$code" -lt 255 ] && [ -z "$terminated" ]; then
        # Killed, such as out of memory; after SIGTERM it was cancelled. A container that cannot be started ends with
        # 255. What is killed as it starts counts as nobody's attempt, so the number of times has an end.
        if [ "${SLURM_RESTART_COUNT:-0}" -lt "$MOST_RESTARTS" ]; then
            why="a process was killed: exit code $code"
        else
            echo "a process was killed: exit code $code; not put back into the queue, after $MOST_RESTARTS restarts"
        fi
    fi
    if [ -n "$why" ]; then
        echo "back to the queue: $why"
        until answer=$(scontrol requeue "$task" 2>&1); do
            if [[ $answer =~ contact\ slurm\ controller|timed\ out|Zero\ Bytes ]] && [ "$requests" -lt "$MOST_REQUESTS" ]; then
                requests=$((requests + 1))
                sleep "$BETWEEN_REQUESTS"
                job=$(scontrol show job --oneliner "$task" 2>&1) || continue
                [[ $job =~ JobState=RUNNING|Reason=TimeLimit ]] && continue # else it was cancelled meanwhile
            fi
            echo "not put back into the queue; \`python -m slurm submit\` goes on with its work. $answer"
            break
        done
    fi
    return "$code"
}
