#!/usr/bin/env bash
# On Google Kubernetes Engine: one run as a JobSet, by xpk, or an ablation's runs on a Ray cluster (rayjob.yaml).
#
#   launch/gke.sh train NAME --cluster C --zone Z --project P --device-type T --image IMAGE --run-dir gs://BUCKET/DIR [-- FLAGS]
#   launch/gke.sh ablate NAME --accelerator A [--topology T] --image IMAGE --claim V --run-dir /runs/DIR [-- FLAGS]
#
# --image IMAGE       made for the accelerator (launch/image.sh), in a registry that the cluster may read
# --run-dir DIR       the run's folder, in a bucket; the ablation's, below /runs
# --job JOB           the workload's name (made of NAME)
# --max-restarts N    after a crash, a lost host or a preemption all is started again, so often (10; an ablation, also where trials failed, 2)
# --nodes N           nodes of a run on GPUs, slices of one on TPUs, workers of an ablation (1)
# --spot              on spot nodes: cheaper, and taken away when others want them (by xpk: where it autoprovisions)
# --dry-run           show the commands and the manifest, start nothing
# of train:
# --cluster C, --zone Z, --project P    a cluster made by `xpk cluster create`
# --device-type T     as xpk names it: v5litepod-16, v6e-8, h100-80gb-8, ...
# of ablate, on the cluster of kubectl's context, with the Ray operator:
# --accelerator A     the nodes' GPU or TPU as GKE labels it: nvidia-l4, tpu-v5-lite-podslice, ...
# --topology T        of a TPU that one node has whole, such as 2x2
# --devices D         GPUs (1) or TPU chips (all of them) of each worker; a trial takes one
# --cpus N, --memory M    of each worker (4, 16Gi)
# --claim V           a PersistentVolumeClaim that many nodes write to (ReadWriteMany, such as Filestore)
#
# Nodes cost money while they are there; xpk's stay until the cluster or its node pool is deleted.

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/settings.sh"
source "$here/running.sh"
settings 'image run-dir job max-restarts nodes spot! cluster zone project device-type accelerator topology devices cpus memory claim' "$@"
verbs train ablate
needs image run-dir
whole nodes 1
if [ "$VERB" = train ]; then whole max-restarts 10; else whole max-restarts 2; fi
matches image '^[A-Za-z0-9._:/@-]+$' "an image's name, as REGISTRY/NAME:TAG"
: "${JOB:=$(printf '%s' "$NAME" | tr '[:upper:]' '[:lower:]' | tr -cs '[:lower:][:digit:]' '-')}"
matches job '^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$' "at most 40 lower-case letters, digits and hyphens, a letter first"
for word in "$NAME" "$RUN_DIR" ${PASSED[@]+"${PASSED[@]}"}; do # xpk and Ray read the command's quotes again
  [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]] ||
    refuse "words with spaces or quotes do not get through to GKE; put them into the experiment's file. Received: $word"
done
known_name

# shellcheck source=gke-train.sh
source "$here/gke-$VERB.sh"
