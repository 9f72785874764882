"""What the daemons of the private cluster are told: slurm.conf, slurmdbd.conf, and a site's own rules in Lua."""

# A requeued job waits cred_expire + 1 seconds before it starts again (121 unless set; SLURM takes no less than 5).
SLURM = """\
ClusterName=private
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller_port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
MailProg=/bin/true
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={database_port}
AccountingStoragePass={folder}/munge.socket
AccountingStorageEnforce=limits,qos
AccountingStorageTRES=gres/gpu
JobCompType=jobcomp/none
JobSubmitPlugins=lua
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
GresTypes=gpu
SlurmdParameters=config_overrides
MaxArraySize={max_array_size}
MinJobAge=300
JobRequeue=1
BatchStartTimeout=1
DefMemPerCPU=500
KillWait={kill_wait}
InactiveLimit=0
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout={slurmd_timeout}
NodeName=DEFAULT CPUs={cpus} RealMemory={memory_mb} Gres=gpu:fake:{gpus}
NodeName=n1 NodeHostname=n1 NodeAddr=127.0.0.1 Port={n1_port}
NodeName=n2 NodeHostname=n2 NodeAddr=127.0.0.1 Port={n2_port}
PartitionName=DEFAULT MaxTime=7-00:00:00 DefaultTime=60 PriorityTier=1 PreemptMode=OFF
PartitionName=main Nodes=n1 Default=YES
PartitionName=short Nodes=n1 MaxTime=30 DefaultTime=5
PartitionName=both Nodes=n1,n2
PartitionName=strict Nodes=n1
PartitionName=scavenge Nodes=n1 PreemptMode=REQUEUE GraceTime=20
PartitionName=spare Nodes=n1,n2 MaxCPUsPerNode=3 PreemptMode=REQUEUE GraceTime=20
PartitionName=urgent Nodes=n1 PriorityTier=10
"""

SLURMDBD = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={database_port}
SlurmUser={user}
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageLoc=slurm
StorageUser=root
"""

# As on sites that give cores and memory with the GPUs: the partition `strict` refuses --mem and --cpus-per-task.
JOB_SUBMIT = """\
function slurm_job_submit(job, partitions, uid)
  if job.partition == "strict" and job.min_mem_per_node ~= nil then
    slurm.log_user("memory comes with the cores here: leave out --mem")
    return slurm.ERROR
  end
  if job.partition == "strict" and job.cpus_per_task ~= slurm.NO_VAL16 then
    slurm.log_user("cores come with the GPUs here: leave out --cpus-per-task")
    return slurm.ERROR
  end
  return slurm.SUCCESS
end

function slurm_job_modify(job, record, partitions, uid)
  return slurm.SUCCESS
end

return slurm.SUCCESS
"""
