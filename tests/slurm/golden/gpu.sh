#!/bin/bash

# Parameters
#SBATCH --account=vision
#SBATCH --array=0-2%2
#SBATCH --chdir={root}
#SBATCH --constraint='a100|h100'
#SBATCH --cpus-per-task=6
#SBATCH --dependency=afterok:41_7
#SBATCH --exclusive
#SBATCH --gpus-per-node=a100:4
#SBATCH --job-name={name}
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --mail-type=END,FAIL,REQUEUE
#SBATCH --mail-user=me@example.org
#SBATCH --mem=64G
#SBATCH --no-requeue
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --open-mode=append
#SBATCH --output={folder}/%A_%a_0_log.out
#SBATCH --partition=gpu
#SBATCH --qos=long
#SBATCH --reservation='the workshop'
#SBATCH --signal=USR2@90
#SBATCH --time=240
#SBATCH --wckey=submitit

# setup
module load python/3.11 cuda/12.4 || { echo 'error: setup: module load python/3.11 cuda/12.4: failed'; exit 1; }
source ~/venv/bin/activate || { echo 'error: setup: source ~/venv/bin/activate: failed'; exit 1; }

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output {folder}/%A_%a_%t_log.out --kill-on-bad-exit=1 --cpus-per-task=6 apptainer exec --nv ~/my.sif python -u -m submitit.core._submit {folder}
