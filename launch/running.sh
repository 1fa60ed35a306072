# shellcheck shell=bash
# Sourced by the scripts of this folder, after settings.sh: what must be there, and commands that are shown, run, and run
# again.

# program gcloud 'where it comes from': must be there, unless nothing is to be started.
program() {
  [ -n "$DRY_RUN" ] || command -v "$1" >/dev/null || refuse "$1: not found on PATH; $2. Received: PATH=$PATH"
}

# An experiment's or ablation's name is looked up where jaxvision is at hand: rather now than in hours, in a queue.
known_name() {
  local told
  command -v jaxvision >/dev/null || return 0
  told=$(jaxvision "$VERB" "$NAME" --help 2>&1 >/dev/null) || refuse "${told#error: }"
}

# Words as a shell reads them back.
quote() {
  local word text="" mark="'" escaped="'\\''"
  for word in "$@"; do
    if [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]]; then text+=" $word"; else text+=" '${word//$mark/$escaped}'"; fi
  done
  printf '%s\n' "${text# }"
}

# Shows a command and, unless this is a dry run, runs it.
run() {
  if [ -n "$DRY_RUN" ]; then quote "$@"; else
    printf '+ %s\n' "$(quote "$@")" >&2
    "$@"
  fi
}

# restarting '0 2' COMMAND...: again and again, at most MAX_RESTARTS times, until it ends with one of these codes.
restarting() {
  local ends=" $1 " count=0 code
  shift
  while true; do
    code=0
    "$@" || code=$?
    [[ -z $DRY_RUN && $ends != *" $code "* && $count -lt $MAX_RESTARTS ]] || return "$code"
    count=$((count + 1))
    printf 'exit code %s: started again in 10 s, %s of %s\n' "$code" "$count" "$MAX_RESTARTS" >&2
    sleep 10
  done
}
