#!/usr/bin/env bash
#SBATCH --requeue --open-mode=append
#SBATCH --signal=B:USR1@180
# The job that slurm.sh submits: slurm-job.sh MAX_RESTARTS JAXVISION train|ablate NAME RUN_DIR FLAGS...
#
# 180 s before the time limit this shell, not the tasks, gets SIGUSR1; it has the run saved, and the job queues again. So
# it does, MAX_RESTARTS times, after a crash or where a process was stopped otherwise (preemption); never where the
# command was refused (exit code 2), and not after `scancel`, which ends this shell too.

set -uo pipefail
[ $# -ge 5 ] || { echo "error: slurm.sh submits this, and has --help. Received: $# words" >&2 && exit 2; }
max_restarts=$1 jaxvision=$2 verb=$3 name=$4 run_dir=$5
shift 5

if [ "$verb" = train ]; then
  command=("$jaxvision" train "$name" --run-dir "$run_dir" --resume "$@")
  [ "${SLURM_NTASKS:-1}" -eq 1 ] || command+=(--distributed auto)
  # --wait: where one process is gone the others say so and end by themselves; 300 s later SLURM ends them.
  command=(srun --wait=300 "${command[@]}")
else
  head=${SLURM_JOB_ID:+$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)}
  # Ray sees all of a node; it is told what of it is ours. Its port is one that two jobs on a node do not share.
  ray=(ray symmetric-run --address "${head:-HEAD}:$((20000 + ${SLURM_JOB_ID:-0} % 10000))" --min-nodes "${SLURM_NNODES:-1}"
    --num-cpus "${SLURM_CPUS_ON_NODE:-1}" --num-gpus "${SLURM_GPUS_ON_NODE:-0}")
  # symmetric-run ends with 0 where Ray did not start, and would not hand a signal on. So the sweep, which runs on this
  # node, leaves its process number and its exit code here.
  control=${SLURM_JOB_ID:+$(mktemp -d)}
  # shellcheck disable=SC2016  # to be expanded by that shell
  driver=(bash -c '"$@" & echo $! >"$0/pid"; wait $!; echo $? >"$0/code"' "${control:-FOLDER}"
    "$jaxvision" ablate "$name" --engine ray --address auto --out "$run_dir" "$@")
  command=(srun --cpus-per-task "${SLURM_CPUS_ON_NODE:-1}" "${ray[@]}" -- "${driver[@]}")
fi

if [ -z "${SLURM_JOB_ID:-}" ]; then # slurm.sh --dry-run
  source "$(dirname "${BASH_SOURCE[0]}")/running.sh"
  quote "${command[@]}"
  exit
fi

stopping=""
# shellcheck disable=SC2329  # the trap's
stop() {
  stopping=yes
  # Of a sweep only the driver is told, if it has begun: Ray's own processes would end before the trials have saved.
  if [ "$verb" = ablate ] && kill -TERM "$(cat "$control/pid" 2>/dev/null)" 2>/dev/null; then return; fi
  scancel --signal=TERM "$SLURM_JOB_ID"
}
trap stop USR1
# Without it whoever reaches Ray's port runs code as you.
RAY_AUTH_TOKEN=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n') && export RAY_AUTH_TOKEN RAY_AUTH_MODE=token
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-} # which srun does not take over from sbatch
[ -n "$SRUN_CPUS_PER_TASK" ] || unset SRUN_CPUS_PER_TASK

echo "--- $(date '+%F %T') job $SLURM_JOB_ID on ${SLURM_JOB_NODELIST:-?}, restart ${SLURM_RESTART_COUNT:-0}: ${command[*]}"
"${command[@]}" &
while true; do # a signal ends `wait` before srun has ended
  wait $!
  code=$?
  kill -0 $! 2>/dev/null || break
done
if [ "$verb" = ablate ]; then
  code=$(cat "$control/code" 2>/dev/null || echo 255)
  rm -r "$control"
fi

case $verb-$code in
  *-0 | *-2 | ablate-1) exit "$code" ;; # done; refused; or trials failed, which were tried again already
esac
if [ -n "$stopping" ] || [ "${SLURM_RESTART_COUNT:-0}" -lt "$max_restarts" ]; then
  echo "exit code $code: queued again"
  scontrol requeue "$SLURM_JOB_ID"
else
  echo "exit code $code: restarted $max_restarts times, which is enough; the same command goes on" >&2
fi
exit "$code"
