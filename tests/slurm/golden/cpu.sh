#!/bin/bash

# Parameters
#SBATCH --chdir={root}
#SBATCH --cpus-per-task=4
#SBATCH --job-name={name}
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mem=4G
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output={folder}/%j_0_log.out
#SBATCH --partition=cpu
#SBATCH --requeue
#SBATCH --signal=USR2@120
#SBATCH --time=30
#SBATCH --wckey=submitit

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output {folder}/%j_%t_log.out --kill-on-bad-exit=1 --cpus-per-task=4 {python} -u -m submitit.core._submit {folder}
