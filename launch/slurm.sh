#!/usr/bin/env bash
# Submits a SLURM job: one run over several nodes, or an ablation's runs, each on some part of a node. From a login node,
# with jaxvision in an environment on the shared file system.
#
#   launch/slurm.sh train NAME --run-dir DIR --nodes N [--gpus-per-node G] [settings] [-- FLAGS OF jaxvision train]
#   launch/slurm.sh ablate NAME --run-dir DIR --nodes N [--gpus-per-node G] [settings] [-- FLAGS OF jaxvision ablate]
#
# --run-dir DIR       the run's or the ablation's folder, that all nodes see; the job's log goes to DIR.slurm.log
# --nodes N           nodes (1); of an ablation whole ones
# --gpus-per-node G   GPUs of each node; a run has a process for each GPU, or one a node where there are none
# --cpus-per-task C   processor cores of each process of a run
# --time LIMIT        of each turn, as sbatch has it (12:00:00); before it ends the job saves and queues again
# --partition P, --account A
# --max-restarts N    after a crash, or a lost node, the job queues again, so often (10)
# --dry-run           show the commands, submit nothing
#
# Everything else that sbatch knows can be said as it reads it: SBATCH_QOS, SBATCH_CONSTRAINT, ... (man sbatch).

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/settings.sh"
source "$here/running.sh"
settings 'nodes gpus-per-node cpus-per-task time partition account run-dir max-restarts' "$@"
verbs train ablate
needs run-dir
whole nodes 1
whole gpus-per-node ""
whole cpus-per-task ""
whole max-restarts 10
matches time '^([0-9]+-)?[0-9]+(:[0-9]{2}){0,2}$' "minutes, HOURS:MM:SS or DAYS-HOURS:MM:SS"
matches run-dir '^(/|gs://)' "an absolute path, the same on all nodes, or gs://"
[[ $VERB == train || $RUN_DIR != gs://* ]] || refuse "--run-dir: an ablation needs a shared file system. Received: $RUN_DIR"
program sbatch "submit from a login node of the cluster"
program jaxvision "activate its environment, which the nodes must see"
known_name
log=$HOME/${RUN_DIR##*/}.slurm.log
if [[ $RUN_DIR != gs://* ]]; then
  log=$RUN_DIR.slurm.log
  folder=$(dirname "$RUN_DIR")
  [ -n "$DRY_RUN" ] || { mkdir -p "$folder" 2>/dev/null && [ -w "$folder" ]; } ||
    refuse "--run-dir: its folder cannot be written. Received: $RUN_DIR"
fi

# jax.distributed gives each process under SLURM one GPU: as many tasks as GPUs, all of which each of them sees. Of an
# ablation each node is one task, Ray's, and whole: Ray would count cores and GPUs of other people's jobs as its own, and
# ends every Ray process of ours on the node when it is done.
options=(--job-name "${RUN_DIR##*/}" --output "$log" --nodes "$NODES" --time "${TIME:-12:00:00}")
if [ "$VERB" = train ]; then options+=(--ntasks-per-node "${GPUS_PER_NODE:-1}"); else options+=(--ntasks-per-node 1 --exclusive); fi
[ -z "$GPUS_PER_NODE" ] || options+=(--gpus-per-node "$GPUS_PER_NODE")
[ -z "$CPUS_PER_TASK" ] || options+=(--cpus-per-task "$CPUS_PER_TASK")
[ -z "$PARTITION" ] || options+=(--partition "$PARTITION")
[ -z "$ACCOUNT" ] || options+=(--account "$ACCOUNT")
job=("$here/slurm-job.sh" "$MAX_RESTARTS" "$(command -v jaxvision || echo jaxvision)" "$VERB" "$NAME" "$RUN_DIR")
run sbatch "${options[@]}" "${job[@]}" ${PASSED[@]+"${PASSED[@]}"}
if [ -n "$DRY_RUN" ]; then
  # Outside a job the job's script shows what it would run.
  SLURM_NTASKS=$((NODES * ${GPUS_PER_NODE:-1})) SLURM_NNODES=$NODES SLURM_GPUS_ON_NODE=${GPUS_PER_NODE:-} "${job[@]}" ${PASSED[@]+"${PASSED[@]}"}
else
  echo "follow it: tail -F $log    see it: squeue --me    stop it: scancel JOB; the same command goes on"
fi
