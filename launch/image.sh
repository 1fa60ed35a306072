#!/usr/bin/env bash
# Builds the image that tpu-vm.sh and gke.sh run, and pushes it. On a machine with Docker.
#
#   launch/image.sh --image REGISTRY/NAME:TAG --accelerator cuda|tpu [--push] [--dry-run]
#
# --image IMAGE       its name; a registry of Google's is REGION-docker.pkg.dev/PROJECT/REPOSITORY/NAME:TAG
# --accelerator A     cuda or tpu: the JAX in it
# --push              to the registry
# --dry-run           show the commands, start nothing
#
# On a machine with an NVIDIA GPU: docker run --gpus all -v "$PWD/runs:/home/jaxvision/runs" IMAGE train digits

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/settings.sh"
source "$here/running.sh"
settings 'image accelerator push!' "$@"
[ -z "$VERB" ] || refuse "only settings are taken here (--help). Received: $VERB"
needs image accelerator
matches accelerator '^(cuda|tpu)$' "cuda or tpu"
matches image '^[a-z0-9][A-Za-z0-9._:/-]*:[A-Za-z0-9._-]+$' "a name and a tag, as REGISTRY/NAME:TAG"
program docker "install Docker"
run docker build --file "$here/Dockerfile" --build-arg "ACCELERATOR=$ACCELERATOR" --tag "$IMAGE" "$(dirname "$here")"
[ -z "$PUSH" ] || run docker push "$IMAGE"
