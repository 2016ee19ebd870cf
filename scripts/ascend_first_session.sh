#!/usr/bin/env bash
# A first session on an Ascend 910 node, from the sources to one archive to send:
#
#   . /usr/local/Ascend/cann/set_env.sh     # CANN 8.5; before it in ascend-toolkit/
#   pip install mindspore==2.8.0            # fits CANN 8.5; docs/ascend_reference.md has others
#   scripts/ascend_first_session.sh [--dry-run] [FOLDER]
#
# Each step writes FOLDER/<step>.log. A step that fails stops none that can do without it; the exit
# code is 1 then. PYTHON names the interpreter, DEVICE the device (CPU rehearses most of it). CHECK
# names a function that returns your network and its inputs, package.module:function, to hold that
# one against NumPy in place of a 3-D ResNet. --dry-run shows the commands and writes nothing.
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
device=${DEVICE:-Ascend}
network=${CHECK:-train_video:to_check}
source "$root/scripts/arguments.sh"
dry=
others=()
for argument; do
  if [[ $argument == --dry-run ]]; then dry=1; else others+=("$argument"); fi
done
parse 1 ${others[@]+"${others[@]}"}
[[ $device == Ascend || $device == CPU ]] || wrong "DEVICE is Ascend or CPU, got '$device'"
folder=${arguments[0]-bn3d-session-$(date +%Y%m%d-%H%M%S)}
[[ $folder ]] || wrong "FOLDER is empty"
while [[ $folder == ?*/ ]]; do folder=${folder%/}; done
case ${folder##*/} in . | .. | '') wrong "FOLDER must have a name for the archive, got '$folder'" ;; esac
bn3d=("$python" -m bn3d)
failed=()

# run STEP COMMAND...: the command's output goes to the terminal and to FOLDER/STEP.log.
run() {
  local step=$1
  shift
  echo "== $step: $*"
  [[ $dry ]] && return
  "$@" 2>&1 | tee "$folder/$step.log"
  local code=${PIPESTATUS[0]}
  echo "exit code $code" >>"$folder/$step.log"
  ((code == 0)) && return
  failed+=("$step")
  return 1
}

environment() {
  uname -a
  "$python" --version
  "$python" -m pip list 2>/dev/null | grep -i -E 'mindspore|numpy|bn3d|te |^te|hccl'
  env | grep -E '^(ASCEND|BN3D|MS_|LD_LIBRARY_PATH|PYTHONPATH)' | sort
  cat "${ASCEND_HOME_PATH:-/usr/local/Ascend/ascend-toolkit/latest}"/*/version.info 2>/dev/null
  command -v npu-smi >/dev/null && npu-smi info
  g++ --version && "$python" -c 'import mindspore; mindspore.run_check()'
}

[[ $dry ]] || mkdir -p "$folder" || exit 1
run 1-environment environment
if run 2-pip "$python" -m pip install --disable-pip-version-check "$root[ascend]"; then
  # The packages are built for this CANN and put where it looks; the log of what the engine
  # rejects, if anything, goes into the archive, too.
  export ASCEND_PROCESS_LOG_PATH=${ASCEND_PROCESS_LOG_PATH:-$(realpath -m "$folder")/plog}
  run 3-install "${bn3d[@]}" opp install
  run 4-status "${bn3d[@]}" opp status
  run 5-info "${bn3d[@]}" info --probe
  run 6-verify "${bn3d[@]}" verify --device "$device" --json "$folder/verify.json"
  run 7-check env PYTHONPATH="$root/examples${PYTHONPATH:+:$PYTHONPATH}" "${bn3d[@]}" \
    check "$network" --beside --device "$device" --json "$folder/check.json"
  run 8-bench "${bn3d[@]}" bench --device "$device" --output "$folder"
  run 9-train "$python" "$root/examples/train_video.py" --device "$device" --output "$folder"
fi

archive=$folder.tar.gz
echo "== archive: $archive"
[[ $dry ]] && exit
tar -czf "$archive" -C "$(dirname "$folder")" "$(basename "$folder")" || exit 1
if ((${#failed[@]})); then
  echo "failed: ${failed[*]}; $archive has the logs, and is what a bug report needs" >&2
  exit 1
fi
echo "all steps passed; $archive has the results"
