# shellcheck shell=bash disable=SC2034,SC2154  # the manifest's variables, and gke.sh's
# The part of gke.sh, which sources it, that has the KubeRay operator make a Ray cluster for an ablation.

needs accelerator claim
whole cpus 4
: "${MEMORY:=16Gi}"
matches memory '^[0-9]+[MG]i$' "an amount such as 16Gi"
matches accelerator '^(nvidia|tpu)-[a-z0-9-]+$' "GKE's label, such as nvidia-l4 or tpu-v5-lite-podslice"
matches topology '^[0-9]+(x[0-9]+)+$' "such as 2x2"
matches claim '^[a-z0-9.-]+$' "a claim's name; kubectl get pvc shows them"
matches run-dir '^/runs/[A-Za-z0-9._/-]+$' "below /runs, where the claim is mounted; letters, digits and ._/- only"
program kubectl "install it, then gcloud container clusters get-credentials"
trial=--gpus-per-trial RESOURCE=nvidia.com/gpu SELECTOR="cloud.google.com/gke-accelerator: $ACCELERATOR"
if [[ $ACCELERATOR == tpu-* ]]; then
  needs topology
  whole devices $((${TOPOLOGY//x/*}))
  trial=--tpus-per-trial RESOURCE=google.com/tpu
  SELECTOR="cloud.google.com/gke-tpu-accelerator: $ACCELERATOR, cloud.google.com/gke-tpu-topology: $TOPOLOGY"
fi
whole devices 1
[ -z "$SPOT" ] || SELECTOR+=', cloud.google.com/gke-spot: "true"'
COMMAND="jaxvision ablate $NAME --engine ray --address auto $trial 1 --out $RUN_DIR${PASSED[*]+ ${PASSED[*]}}"
# The file as a here-document: ${...} in it become the settings; the settings, checked above, are not read again.
manifest=$(eval "cat <<END"$'\n'"$(cat "$here/rayjob.yaml")"$'\n'"END")
run kubectl apply --filename - <<<"$manifest"
[ -z "$DRY_RUN" ] || printf '%s\n' "$manifest"
