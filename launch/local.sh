#!/usr/bin/env bash
# Trains on this machine, on its GPUs where it has some: one run in several processes, or an ablation's runs.
#
#   launch/local.sh train NAME [--processes N] [--run-dir DIR] [-- FLAGS OF jaxvision train]
#   launch/local.sh ablate NAME [--run-dir DIR] [-- FLAGS OF jaxvision ablate]
#
# --processes N       processes that train one run together (1); each takes an equal share of the GPUs
# --run-dir DIR       the run's folder (runs/NAME); what processes 1, 2, ... print goes to DIR.process-1.log, ...
# --max-restarts N    all processes are started again, from what was saved, so often after a crash (3)
# --dry-run           show the commands, start nothing
#
# The same command goes on with a run that was stopped. Exit codes are jaxvision's: 2 refused, 143 stopped and saved.

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/settings.sh"
source "$here/running.sh"
settings 'processes run-dir max-restarts' "$@"
verbs train ablate
whole processes 1
whole max-restarts 3
program jaxvision "pip install -e . and activate the environment"
known_name
: "${RUN_DIR:=runs/$NAME}"

if [ "$VERB" = ablate ]; then
  [ "$PROCESSES" -eq 1 ] || refuse "--processes: is of train; ablate starts as many runs as there is room for. Received: $PROCESSES"
  # It tries crashed runs again itself.
  run jaxvision ablate "$NAME" --engine ray --out "$RUN_DIR" ${PASSED[@]+"${PASSED[@]}"}
  exit
fi

# The GPUs to share out: those that are visible already, or all; none on a CPU.
gpus=()
if listed=${CUDA_VISIBLE_DEVICES-$(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null | paste -sd, -)}; then
  IFS=, read -r -a gpus <<<"$listed"
fi
share=$((${#gpus[@]} / PROCESSES))
[ $((share * PROCESSES)) -eq ${#gpus[@]} ] ||
  refuse "--processes: ${#gpus[@]} GPUs are not shared equally by that many. Received: $PROCESSES"

free_port() {
  local port=$((20000 + RANDOM % 20000))
  while (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
  echo "$port"
}

command_of() { # number, port: the words of that process's command
  command=(jaxvision train "$NAME" --run-dir "$RUN_DIR" --resume ${PASSED[@]+"${PASSED[@]}"})
  [ "$PROCESSES" -eq 1 ] || command+=(--distributed "127.0.0.1:$2" --num-processes "$PROCESSES" --process-id "$1")
  [ "$share" -eq 0 ] || command=(env "CUDA_VISIBLE_DEVICES=$(IFS=, && echo "${gpus[*]:$1*share:share}")" "${command[@]}")
}

pids=()
# Ctrl-C reaches only this shell (set -m), and each process is told once: a second signal would end it unsaved.
set -m
trap '[ ${#pids[@]} -eq 0 ] || kill -TERM "${pids[@]}" 2>/dev/null || true' TERM INT

attempt() { # starts all, waits for all; 2 where one was refused, otherwise the highest exit code
  local number pid code highest=0 port
  port=$(free_port)
  pids=()
  for ((number = 0; number < PROCESSES; number++)); do
    command_of "$number" "$port"
    if [ -n "$DRY_RUN" ]; then
      quote "${command[@]}"
    elif [ "$number" -eq 0 ]; then
      "${command[@]}" </dev/null & pids+=($!)
    else
      mkdir -p "$(dirname "$RUN_DIR")"
      "${command[@]}" </dev/null >>"$RUN_DIR.process-$number.log" 2>&1 & pids+=($!)
    fi
  done
  for pid in ${pids[@]+"${pids[@]}"}; do
    while true; do # a signal ends `wait` before the process has ended
      code=0
      wait "$pid" || code=$?
      kill -0 "$pid" 2>/dev/null || break
    done
    if [ "$highest" -ne 2 ] && { [ "$code" -eq 2 ] || [ "$code" -gt "$highest" ]; }; then highest=$code; fi
  done
  return "$highest"
}
restarting "0 2 130 143" attempt
