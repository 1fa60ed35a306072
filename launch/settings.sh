# shellcheck shell=bash disable=SC2034  # the variables are the scripts'
# Sourced by the scripts of this folder: their settings, and checks of them.
#
# A setting is a flag of the same name in every script (--run-dir DIR) or, where that is not given, a variable of the
# environment (JAXVISION_RUN_DIR), so that what a site always says can be kept in one file of exports. What follows `--`
# goes to jaxvision as it is. Anything wrong is told in one line, with exit code 2, before anything is started.

refuse() {
  printf 'error: %s\n' "$*" >&2
  exit 2
}

# settings 'nodes run-dir spot!' "$@": reads train|ablate NAME, these settings (! takes no value), and what follows `--`,
# into VERB, NAME, NODES, RUN_DIR, SPOT, ..., PASSED and DRY_RUN.
settings() {
  local known=" $1 dry-run! " option variable
  shift
  VERB="" NAME="" PASSED=()
  for option in $known; do
    variable=$(variable_of "${option%!}")
    local from="JAXVISION_$variable"
    printf -v "$variable" '%s' "${!from:-}"
  done
  while [ $# -gt 0 ]; do
    option=${1#--}
    case $1 in
      --) shift && PASSED=("$@") && break ;;
      -h | --help) usage && exit 0 ;;
      --*=*) # --nodes=2
        set -- "${1%%=*}" "${1#*=}" "${@:2}"
        continue
        ;;
      --*)
        variable=$(variable_of "$option")
        if [[ $known == *" $option! "* ]]; then
          printf -v "$variable" yes
        elif [[ $known != *" $option "* ]]; then
          refuse "$1: no such setting; --help shows them. Flags of jaxvision go after --. Received: $1"
        elif [ $# -lt 2 ] || [[ $2 == --* ]]; then
          refuse "$1: a value is missing after it. Received: ${2:-nothing}"
        else
          printf -v "$variable" '%s' "$2"
          shift
        fi
        ;;
      *) if [ -z "$VERB" ]; then VERB=$1; elif [ -z "$NAME" ]; then NAME=$1; else
        refuse "flags of jaxvision go after --, and one run has one name. Received: $1"
      fi ;;
    esac
    shift
  done
}

variable_of() { printf '%s' "$1" | tr 'a-z-' 'A-Z_'; }

# The comment that a script begins with.
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

# verbs train ablate: what the script can do; and there must be a name.
verbs() {
  [[ -n $VERB && " $* " == *" $VERB "* ]] || refuse "say what to do first: $* (--help). Received: ${VERB:-nothing}"
  [ -n "$NAME" ] || refuse "$VERB: say which experiment; jaxvision list shows them. Received: nothing"
}

# needs run-dir image: settings that must be given.
needs() {
  local option variable
  for option in "$@"; do
    variable=$(variable_of "$option")
    [ -n "${!variable}" ] || refuse "--$option (or JAXVISION_$variable): is needed; --help says for what. Received: nothing"
  done
}

# whole nodes 2: a whole number of at least 1 (0 for restarts); where none is given, the one said here.
whole() {
  local variable least=1
  variable=$(variable_of "$1")
  [ "$1" != max-restarts ] || least=0
  [ -n "${!variable}" ] || printf -v "$variable" '%s' "$2"
  [[ ${!variable} =~ ^(0|[1-9][0-9]{0,5})$ && ${!variable} -ge $least || -z ${!variable} ]] ||
    refuse "--$1: must be a whole number of at least $least. Received: ${!variable}"
}

# matches image REGEX 'what it should be': of a setting that is given.
matches() {
  local variable
  variable=$(variable_of "$1")
  [[ -z ${!variable} || ${!variable} =~ $2 ]] || refuse "--$1: must be $3. Received: ${!variable}"
}
