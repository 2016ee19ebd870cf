#!/bin/bash
# Runs the tests of the layer, the library and swap with other versions of MindSpore and Python:
#
#     scripts/test_versions.sh MINDSPORE@PYTHON...    such as 2.7.0@3.10 2.10.0@3.12
#
# By default with all that have wheels. Each pair gets a virtual environment in a temporary
# directory, which is removed afterwards (about 2 GB while it runs). pythonX.Y must be on the PATH.
# The last lines are the table of results.
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD
pairs=("$@")
if [[ ${#pairs[@]} == 0 ]]; then
  for mindspore in 2.10.0 2.7.0 2.9.0 2.8.0 2.7.2; do
    for python in 3.10 3.11 3.12; do pairs+=("$mindspore@$python"); done
  done
fi

try() { # try MINDSPORE PYTHON DIRECTORY: prints the result in a line
  local python=$3/venv/bin/python log=$3/log
  "python$2" -m venv "$3/venv" >"$log" 2>&1 || { echo "no python$2 with venv"; return 1; }
  if ! "$python" -m pip install -q "mindspore==$1" >"$log" 2>&1; then
    grep -q "No matching distribution" "$log" && { echo "no wheel"; return 0; }
    cat "$log" >&2
    echo "MindSpore could not be installed"
    return 1
  fi
  "$python" -m pip install -q "$root" "pytest>=8" "hypothesis>=6.100" >"$log" 2>&1 || {
    cat "$log" >&2
    echo "bn3d could not be installed"
    return 1
  }
  # Away from the sources: the installed package is tested.
  cp -r "$root/tests" "$root/pyproject.toml" "$3/"
  (cd "$3" && "$python" -m pytest -q -p no:cacheprovider tests/test_batch_norm.py \
    tests/test_native.py tests/test_reference.py tests/test_swap*.py tests/test_properties.py) \
    >"$log" 2>&1
  local code=$?
  [[ $code == 0 ]] || grep -E "^(FAILED|ERROR|E  )" "$log" | head -40 >&2
  tail -1 "$log"
  return $code
}

results=()
failed=0
for pair in "${pairs[@]}"; do
  directory=$(mktemp -d)
  result=$(try "${pair%@*}" "${pair#*@}" "$directory") || failed=1
  rm -rf "$directory"
  results+=("| ${pair%@*} | ${pair#*@} | $result |")
  echo "${results[-1]}"
done
printf '\n| MindSpore | Python | result |\n| --- | --- | --- |\n'
printf '%s\n' "${results[@]}"
exit $failed
