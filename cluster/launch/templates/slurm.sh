#!/bin/bash
# Strata on {{ job.nodes }} Slurm node{{ "s" if job.nodes > 1 }}: starts Ray on them, makes one run, and ends Ray with it.
#   sbatch THIS_FILE
# Before its time is over the run saves a checkpoint, the job is queued again, and goes on from there.
#SBATCH --job-name={{ job.name }}
#SBATCH --nodes={{ job.nodes }}
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task={{ job.cpus }}
{% if job.gpus %}
#SBATCH --gpus-per-node={{ job.gpus }}
{% endif %}
{% if memory_gib %}
#SBATCH --mem={{ memory_gib }}G
{% endif %}
{% if partition %}
#SBATCH --partition={{ partition }}
{% endif %}
{% if account %}
#SBATCH --account={{ account }}
{% endif %}
#SBATCH --time={{ time }}
#SBATCH --signal=B:USR1@{{ grace_s }}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

fail() { echo "$SLURM_JOB_NAME: $*" >&2; exit 1; }

nodes={{ job.nodes }}
wait_s=${STRATA_WAIT_S:-300}
work=${STRATA_WORK:-$PWD/runs/$SLURM_JOB_NAME-$SLURM_JOB_ID}  # on a file system that all nodes share
export PATH={{ environment }}/bin:$PATH
command -v strata >/dev/null || fail "no strata in {{ environment }}/bin: install it there, on a file system of all nodes"
mkdir -p "$work"

# A token of this job's own, which only its owner can read: without it nobody may join or use this Ray.
unset RAY_AUTH_TOKEN
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$work/.ray_auth_token
rm -f "$RAY_AUTH_TOKEN_PATH"
(umask 077; python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$RAY_AUTH_TOKEN_PATH")

mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
((${#hosts[@]} == nodes)) || fail "expected $nodes nodes, the job has ${#hosts[@]}: ${hosts[*]}"
address=${STRATA_ADDRESS:-$(getent ahostsv4 "${hosts[0]}" | awk '$1 !~ /^127\./ { print $1; exit }' || true)}
address=${address:-$(hostname -I | awk '{ print $1 }')}
port=$((20000 + SLURM_JOB_ID % 20000))  # jobs that share a node do not meet
temporary=/tmp/ray-$SLURM_JOB_ID

steps=() run="" again=0 signalled=0

finish() {
  trap - EXIT USR1 TERM INT
  if ((${#steps[@]})); then kill "${steps[@]}" 2>/dev/null || true; fi
  for ((s = 0; s < 20; s++)); do
    [[ -n $(jobs -pr) ]] || break
    sleep 1
  done
  rm -f "$RAY_AUTH_TOKEN_PATH"
  timeout 60 srun --nodes="$nodes" --ntasks="$nodes" --overlap rm -rf "$temporary" || true
}

stop() {  # the first one lets the run end its round and save
  signalled=1
  if [[ -n $run ]]; then kill -TERM "$run" 2>/dev/null || true; else exit 143; fi
}

ray_on() {  # how many nodes, their names, and what `ray start` is told
  srun --nodes="$1" --ntasks="$1" --nodelist="$2" --cpus-per-task={{ job.cpus }} --overlap \
    ray start "${@:3}" --num-cpus={{ job.cpus }} --num-gpus={{ job.gpus }} --disable-usage-stats --block &
  steps+=($!)
}

trap finish EXIT
trap 'again=1; stop' USR1
trap stop TERM INT

echo "starting Ray on ${hosts[*]}, head $address:$port"
ray_on 1 "${hosts[0]}" --head --node-ip-address="$address" --port="$port" --dashboard-host=127.0.0.1 \
  --temp-dir="$temporary"
for ((s = 0; ; s++)); do
  if (exec 3<>"/dev/tcp/$address/$port") 2>/dev/null; then break; fi
  kill -0 "${steps[0]}" 2>/dev/null || fail "Ray's head ended as it started: see above, and $temporary on ${hosts[0]}"
  ((s < wait_s)) || fail "Ray's head did not answer at $address:$port within $wait_s s"
  sleep 1
done
if ((nodes > 1)); then
  ray_on $((nodes - 1)) "$(IFS=,; echo "${hosts[*]:1}")" --address="$address:$port"
fi

{% if wandb_secret %}
# After the nodes were started: only the process that logs has W&B's key.
[[ -r {{ wandb_secret }} ]] || fail "no W&B key in {{ wandb_secret }}"
WANDB_API_KEY=$(<{{ wandb_secret }})
export WANDB_API_KEY
{% endif %}
{{ job.command() }} \
  "ray.address=$address:$port" "ray.nodes=$nodes" "output=$work" &
run=$!
code=0
while wait "$run" && code=0 || code=$?; ((signalled)); do signalled=0; done
if ((again && code != 0)); then
  echo "out of time: queued again, to go on where it was saved"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
