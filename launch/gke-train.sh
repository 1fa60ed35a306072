# shellcheck shell=bash
# The part of gke.sh, which sources it, that has xpk make a JobSet of one run.

needs cluster zone project device-type
matches run-dir '^gs://[a-z0-9][a-z0-9._-]{2,}/.+' "a folder in a bucket, gs://BUCKET/DIR: the nodes share no disk"
program xpk "pip install xpk, in an environment of its own"
program kubectl "xpk speaks to the cluster through it"
flags=(train "$NAME" --run-dir "$RUN_DIR" --resume ${PASSED[@]+"${PASSED[@]}"})
case $DEVICE_TYPE in
  v[0-9]* | tpu*) # JAX finds the hosts of TPU slices itself
    size=(--num-slices "$NODES")
    join="--distributed auto"
    ;;
  h100* | h200* | b200* | gb200* | a100* | l4*) # and is told those of GPU nodes, by variables that xpk sets
    size=(--num-nodes "$NODES")
    # shellcheck disable=SC2016  # expanded in the container; xpk's manifest breaks at a double quote
    join='--distributed $JAX_COORDINATOR_ADDRESS:$JAX_COORDINATOR_PORT --num-processes $NNODES --process-id $NODE_RANK'
    ;;
  *) refuse "--device-type: must be one of xpk's TPUs or GPUs, such as v5litepod-16 or h100-80gb-8. Received: $DEVICE_TYPE" ;;
esac
# exec: the signal of a preemption reaches jaxvision, not a shell. xpk restarts after exit codes 42 and from 127 on, and
# after 1, another host is gone; not after 2, refused.
workload=(xpk workload create --workload "$JOB" --cluster "$CLUSTER" --zone "$ZONE" --project "$PROJECT"
  --device-type "$DEVICE_TYPE" "${size[@]}" --docker-image "$IMAGE" --max-restarts "$MAX_RESTARTS" --restart-on-exit-codes 1
  --termination-grace-period-seconds 120 ${SPOT:+--spot} --command "exec jaxvision ${flags[*]} $join")
run "${workload[@]}"
if [ -n "$DRY_RUN" ]; then
  command -v xpk >/dev/null || { echo "# the manifest can be shown where xpk is installed" && exit; }
  manifest=$(mktemp)
  trap 'rm -f "$manifest"' EXIT
  "${workload[@]}" --dry-run --skip-validation --output-manifest-file "$manifest" >/dev/null
  cat "$manifest"
fi
