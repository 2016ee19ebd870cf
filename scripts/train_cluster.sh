#!/usr/bin/env bash
# Trains examples/train_data_parallel.py on the devices of one or several Ascend nodes.
set -euo pipefail

usage() {
  cat <<'END'
usage: scripts/train_cluster.sh [OPTION...] HOST... [-- ARGUMENT...]

Starts msrun on each HOST over ssh and waits for all. The first host coordinates; the others
must reach it by that name. The repository, and the virtual environment with its '.[demo]', must
be at the same path everywhere. ARGUMENTs go to examples/train_data_parallel.py (--help); its
--batch is 2 patches a device unless they say otherwise.

  --devices N   devices a node                              (8)
  --port P      free TCP port on the first host             (8118)
  --venv DIR    virtual environment, from the repository    (.venv)
  --set-env F   CANN's set_env.sh on every node, sourced    (the first that is there of
                before the virtual environment               /usr/local/Ascend/cann/set_env.sh,
                                       /usr/local/Ascend/ascend-toolkit/set_env.sh)
  --logs DIR    folder of the workers' logs on every node   (build/train_cluster)
  --timeout S   seconds to wait for all nodes, and then for
                a node that no longer answers               (300)
  --dry-run     print the commands instead of running them
END
}

fail() {
  echo "train_cluster.sh: $*" >&2
  exit 2
}

devices=8 port=8118 venv=.venv set_env= logs=build/train_cluster timeout=300 dry_run=false hosts=()
while (($#)); do
  case $1 in
    --devices | --port | --venv | --set-env | --logs | --timeout)
      (($# > 1)) || fail "$1 needs a value"
      option=${1#--}
      declare "${option//-/_}=$2"
      shift
      ;;
    --dry-run) dry_run=true ;;
    -h | --help)
      usage
      exit
      ;;
    --)
      shift
      break
      ;;
    -*) fail "unknown option $1; see --help" ;;
    *) hosts+=("$1") ;;
  esac
  shift
done
((${#hosts[@]})) || fail "no HOST given; see --help"
for number in "$devices" "$port" "$timeout"; do
  [[ $number =~ ^[1-9][0-9]*$ ]] || fail "--devices, --port and --timeout are numbers above 0, got '$number'"
done

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# A command over ssh runs without a login's environment, hence set_env.sh. The virtual environment
# comes after it, so that its Python is the first on the PATH.
environment() {
  if [[ $set_env ]]; then
    printf 'if [ -f %q ]; then source %q; ' "$set_env" "$set_env"
    printf 'else echo there is no %q here >&2; exit 2; fi; ' "$set_env"
  else
    printf 'for file in /usr/local/Ascend/{cann,ascend-toolkit}/set_env.sh; do '
    printf 'if [ -f $file ]; then source $file; break; fi; done; '
  fi
  printf 'source %q && ' "$venv/bin/activate"
}

# The command of node $1, quoted for the shell at the other end of ssh.
node_command() {
  local total=$((devices * ${#hosts[@]}))
  printf 'cd %q || exit; ' "$root"
  environment
  printf 'MS_NODE_TIMEOUT=%q MS_RECEIVE_MSG_TIMEOUT=%q msrun' "$timeout" "$timeout"
  printf ' %q' --worker_num=$total --local_worker_num="$devices" \
    --master_addr="${hosts[0]}" --master_port="$port" --node_rank="$1" \
    --cluster_time_out="$timeout" --log_dir="$logs" --join=True \
    examples/train_data_parallel.py --device Ascend --batch $((2 * total)) "${@:2}"
}

if $dry_run; then
  for node in "${!hosts[@]}"; do
    command=$(node_command "$node" "$@")
    echo "ssh -tt ${hosts[node]} ${command@Q}"
  done
  exit
fi

# With a terminal (-tt) a node's msrun ends when its ssh does, so Ctrl-C ends all.
processes=()
trap '((${#processes[@]} == 0)) || kill "${processes[@]}" 2>/dev/null || true' EXIT
for node in "${!hosts[@]}"; do
  ssh -tt "${hosts[node]}" "$(node_command "$node" "$@")" </dev/null \
    > >(sed "s/^/${hosts[node]}: /") 2>&1 &
  processes+=($!)
done

# A node that fails takes the others along: their ranks wait for its ranks in vain.
status=0
while ((${#processes[@]})); do
  wait -n "${processes[@]}" || { status=$?; break; }
  processes=($(jobs -p)) # without the one that has ended
done
((status == 0)) || echo "train_cluster.sh: a node failed (exit code $status); see $logs there" >&2
exit "$status"
