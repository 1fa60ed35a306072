#!/usr/bin/env bash
# Trains one run on a Cloud TPU slice, the same container on each of its hosts, over `gcloud ... ssh --worker=all`.
#
#   launch/tpu-vm.sh train NAME --tpu TPU --image IMAGE --run-dir gs://BUCKET/DIR [settings] [-- FLAGS OF jaxvision train]
#
# --tpu TPU                the slice's name
# --image IMAGE            made for TPUs (launch/image.sh), in a registry that the slice's service account may read
# --run-dir gs://...       the run's folder
# --zone Z, --project P    where gcloud's own defaults are others
# --accelerator-type T     create the slice where there is none, and again where it was preempted: v5litepod-16, v6e-8, ...
# --runtime-version V      the hosts' system (gcloud compute tpus tpu-vm versions list); goes with --accelerator-type
# --spot                   create it as a spot slice: cheaper, and taken away when others want it
# --max-restarts N         after a crash, a lost host or a preemption it is started again, so often (10)
# --dry-run                show the commands, start nothing
#
# A slice costs money from its creation until it is deleted, whether it trains or not. Keep this script in tmux: should
# it or its connection end, the hosts train on, and the same command has them save, stop and go on.

# shellcheck disable=SC2329  # functions are called by others
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/settings.sh"
source "$here/running.sh"
settings 'tpu image run-dir zone project accelerator-type runtime-version spot! max-restarts' "$@"
verbs train
needs tpu image run-dir
whole max-restarts 10
matches tpu '^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$' "lower-case letters, digits and hyphens"
matches image '^[A-Za-z0-9._:/@-]+$' "an image's name, as REGISTRY/NAME:TAG"
matches run-dir '^gs://[a-z0-9][a-z0-9._-]{2,}/.+' "a folder in a bucket, gs://BUCKET/DIR: the hosts share no disk"
matches accelerator-type '^[a-z0-9]+(-[0-9]+)$' "a type and its size, such as v5litepod-16"
[ -z "$ACCELERATOR_TYPE" ] || needs runtime-version
program gcloud "install the Google Cloud CLI, then gcloud auth login"
known_name

gcloud=(gcloud compute tpus tpu-vm)
where=("$TPU" ${ZONE:+--zone "$ZONE"} ${PROJECT:+--project "$PROJECT"})
remove=("${gcloud[@]}" delete "${where[@]}" --quiet)

begun=""
prepare() { # the slice is there, or is made; 1: it may be, later
  local told=""
  if [ -n "$DRY_RUN" ]; then
    [ -z "$ACCELERATOR_TYPE" ] || create
    return
  fi
  told=$("${gcloud[@]}" describe "${where[@]}" '--format=value(state)' 2>&1) || [[ $told == *NOT_FOUND* ]] || {
    told=${told##*$'\n'} # after a preemption or with the network gone it is asked again
    [ -n "$begun" ] || refuse "--tpu: gcloud cannot tell of it: $told. Received: $TPU"
    echo "$told" >&2
    return 1
  }
  [[ $told != *NOT_FOUND* ]] || told=""
  case ${told##*$'\n'} in
    READY) ;;
    "" | PREEMPTED | TERMINATED)
      [ -n "$ACCELERATOR_TYPE" ] ||
        refuse "--tpu: is not ready; give another, or --accelerator-type to create it. Received: $TPU (${told:-not found})"
      [ -z "$told" ] || run "${remove[@]}"
      create || return 1
      ;;
    *) [ -n "$begun" ] || refuse "--tpu: is not ready, and not gone. Received: $TPU (${told##*$'\n'})" && return 1 ;;
  esac
  begun=yes
}

create() { run "${gcloud[@]}" create "${where[@]}" --accelerator-type "$ACCELERATOR_TYPE" --version "$RUNTIME_VERSION" ${SPOT:+--spot}; }

# On each host: what an earlier command left at work saves and ends; then the container, with access to the chips
# (--privileged, memlock) and to the other hosts (--net=host).
flags=(train "$NAME" --run-dir "$RUN_DIR" --resume --distributed auto ${PASSED[@]+"${PASSED[@]}"})
remote="sudo docker stop --time 120 jaxvision >/dev/null 2>&1; sudo docker rm --force jaxvision >/dev/null 2>&1; "
[[ $IMAGE != *.pkg.dev/* ]] || remote+="sudo gcloud auth configure-docker ${IMAGE%%/*} --quiet && "
remote+="sudo docker run --rm --name jaxvision --stop-timeout 120 --privileged --net=host --ulimit memlock=-1 $IMAGE $(quote "${flags[@]}")"

attempt() { # gcloud ends with the first failing host's exit code
  prepare && run "${gcloud[@]}" ssh "${where[@]}" --worker=all --command "$remote"
}
code=0
restarting "0 2 130" attempt || code=$?
[ -n "$DRY_RUN" ] || echo "the slice costs money until it is deleted: $(quote "${remove[@]}")" >&2
exit "$code"
