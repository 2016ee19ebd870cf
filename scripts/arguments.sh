# Sourced by the scripts beside it, whose help is the comment that they begin with.

usage() {
  sed -n '2,/^[^#]/{s/^# \{0,1\}//p;}' "$0"
}

wrong() { # wrong TEXT: ends the script, which was called wrongly
  echo "${0##*/}: $*; see --help" >&2
  exit 2
}

# parse MOST ARGUMENT...: --help, or at most MOST arguments that are no options, into `arguments`.
parse() {
  local most=$1 argument
  shift
  arguments=()
  for argument; do
    case $argument in
      -h | --help)
        usage
        exit
        ;;
      -*) wrong "unknown option $argument" ;;
      *) arguments+=("$argument") ;;
    esac
  done
  ((${#arguments[@]} <= most)) || wrong "at most $most arguments, got ${#arguments[@]}"
}

number() { # number TEXT: ends the script unless it is one
  [[ $1 =~ ^[1-9][0-9]*$ ]] || wrong "a number above 0 is needed, got '$1'"
}
