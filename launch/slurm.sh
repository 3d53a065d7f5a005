#!/bin/bash
# A training on several machines under SLURM, which may take them away and give them back.
#
#     sbatch --nodes=8 launch/slurm.sh pretrain igpt-l --data /shared/imagenet \
#         --palette /shared/palette.npy --out /shared/runs/l
#
# All words after the file's name are those of igpt: pretrain, finetune or resume. Data and run must
# lie where all machines see them. What is fitted to a cluster stands here above the commands; the
# environment that has igpt is .venv where the job is queued, or $IGPT_ENVIRONMENT.
#
# Five minutes before its time is up, or when it is to make way, the job is told to save; then it
# queues itself again, and the same command goes on with the run. One that fails by itself ends with
# the code of torchrun, and is not queued again. A machine that dies queues it again, by --requeue.

#SBATCH --job-name=igpt
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --mem=0
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=igpt-%j.log

set -u

PATH="${IGPT_ENVIRONMENT:-$PWD/.venv}/bin:$PATH"
processes="${SLURM_GPUS_ON_NODE:-8}"
export PATH OMP_NUM_THREADS=$((${SLURM_CPUS_PER_TASK:-64} / processes))
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=240 # seconds to save, of the 300

machines=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
meeting="${machines%%$'\n'*}:$((20000 + SLURM_JOB_ID % 20000))"

asked=
trap 'asked=yes; scancel --signal=TERM "$SLURM_JOB_ID"' TERM USR1 # the steps, not this shell

srun --kill-on-bad-exit=1 torchrun \
    --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="$processes" --max-restarts=3 \
    --rdzv-backend=c10d --rdzv-endpoint="$meeting" \
    --rdzv-id="$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}" \
    -m igpt "$@" &
step=$!

while :; do # a signal ends the waiting, not what is waited for
    wait "$step"
    code=$?
    kill -0 "$step" 2>/dev/null || break
done

if [ -n "$asked" ] && [ "$code" -ne 0 ]; then # torchrun that was asked to stop ends with 1
    echo "asked to stop; job $SLURM_JOB_ID is queued again"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
