#!/bin/bash
# A training on all GPUs of one machine, which may be taken away and come back.
#
#     launch/one-machine.sh pretrain igpt-s --data data/imagenet --palette palette.npy --out runs/s
#
# All words are those of igpt: pretrain, finetune or resume. The same words go on with the run; so
# have the machine call this whenever it starts, for instance by a line of `crontab -e`:
#
#     @reboot cd /home/me/work && launch/one-machine.sh pretrain ... >> igpt.log 2>&1
#
# SIGTERM, which machines on offer send before they go, saves and ends with 143; 0 says that the
# training is done; any other code is that of torchrun, which by then has begun anew three times.
# The environment that has igpt is .venv in this folder, or $IGPT_ENVIRONMENT; $PROCESSES is how
# many processes there are, by default one for each GPU.

set -u

PATH="${IGPT_ENVIRONMENT:-$PWD/.venv}/bin:$PATH"
processes="${PROCESSES:-$(nvidia-smi --list-gpus | wc -l)}"
export PATH OMP_NUM_THREADS=$(($(nproc --all) / processes))
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=100 # seconds to save; clouds give 30 to 120

asked=
trap 'asked=yes; kill -TERM "$launcher" 2>/dev/null' TERM INT

torchrun --standalone --nproc-per-node="$processes" --max-restarts=3 -m igpt "$@" &
launcher=$!

while :; do # a signal ends the waiting, not what is waited for
    wait "$launcher"
    code=$?
    kill -0 "$launcher" 2>/dev/null || break
done

if [ -n "$asked" ] && [ "$code" -ne 0 ]; then # torchrun that was asked to stop ends with 1
    code=143
fi
exit "$code"
