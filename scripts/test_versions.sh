#!/bin/bash
# Runs the core of the tests with other versions of MindSpore and Python, and tries MindSpore alone
# with NumPy 2, which bn3d's dependencies rule out:
#
#     scripts/test_versions.sh MINDSPORE@PYTHON...    such as 2.7.0@3.10 2.10.0@3.12
#
# By default with all that have wheels. pythonX.Y must be on the PATH. Each pair gets a virtual
# environment of about 2 GB in a temporary directory, or in ENVIRONMENTS=DIRECTORY, where they stay
# for the next time. The last lines are the table of results.
#
# The core is what meets MindSpore: the layer, its backends (on Ascend as far as a stand-in goes),
# every operator and the layer against the judge, swap, fold and freeze. scripts/test.sh has the
# rest, which needs PyTorch, or is the same with any MindSpore: the C interface of the native
# library, the operator package, bad input, the demo, the scripts.
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD
core=(test_batch_norm.py test_derivatives.py test_execution.py test_mixed_precision.py
  test_backends.py backends test_verify.py test_swapping.py test_swapping_networks.py networks
  test_freezing.py)
numpy2=(2.2.6 2.4.6)
pairs=("$@")
if [[ ${#pairs[@]} == 0 ]]; then
  for mindspore in 2.10.0 2.7.0 2.9.0 2.8.0 2.7.2; do
    for python in 3.10 3.11 3.12; do pairs+=("$mindspore@$python"); done
  done
fi
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT

environment() { # environment MINDSPORE PYTHON DIRECTORY: in DIRECTORY/venv, without bn3d
  [[ -e $3/venv/complete ]] && return
  "python$2" -m venv --clear "$3/venv" || { echo "no python$2 with venv"; return 1; }
  "$3/venv/bin/python" -m pip install -q "mindspore==$1" "numpy<2" "rich>=13" "typer>=0.12" \
    "pytest>=8" "hypothesis>=6.100" && touch "$3/venv/complete"
}

# MindSpore alone, so that a failure is its own.
OPERATORS='
import sys, traceback, numpy, mindspore
x = mindspore.Tensor(numpy.ones((1, 1, 2, 3), numpy.float32))
for name, compute in (
    ("x + x", lambda: x + x),
    ("BatchNorm2d", lambda: mindspore.nn.BatchNorm2d(1)(x)),
    ("x + numpy.float32(1)", lambda: x + numpy.float32(1)),
):
    try:
        compute().asnumpy()
    except Exception as error:
        print(f"@ {name}: {type(error).__name__}")
        sys.exit()
print("@ works")'

with_numpy2() { # in the environment of $python, then back to what was there
  local before version said cells=""
  before=$("$python" -c 'import numpy; print(numpy.__version__)')
  for version in "${numpy2[@]}"; do
    if "$python" -m pip install -q --no-deps "numpy==$version" >/dev/null 2>&1; then
      said=$(cd / && "$python" -c "$OPERATORS" 2>/dev/null | sed -n 's/^@ //p')
      cells+=" ${said:-import fails} |"
    else
      cells+=" no wheel |"
    fi
  done
  "$python" -m pip install -q --no-deps "numpy==$before" >/dev/null 2>&1
  echo "$cells"
}

try() { # try MINDSPORE PYTHON DIRECTORY: prints the cells of the table
  local python=$3/venv/bin/python log=$3/log
  if ! environment "$@" >"$log" 2>&1; then
    grep -q "No matching distribution found for mindspore" "$log" && { echo "no wheel |"; return; }
    cat "$log" >&2
    echo "MindSpore could not be installed |"
    return 1
  fi
  # One wheel fits all versions of Python and MindSpore.
  [[ $(ls "$wheels") ]] || "$python" -m pip wheel -q --no-deps -w "$wheels" "$root" >"$log" 2>&1
  "$python" -m pip install -q --force-reinstall --no-deps "$wheels"/*.whl >>"$log" 2>&1 &&
    "$python" -m pip check >>"$log" 2>&1 || {
    cat "$log" >&2
    echo "bn3d could not be installed |"
    return 1
  }
  # Away from the sources: the installed package is tested.
  rm -rf "$3/tests" && cp -r "$root/tests" "$root/pyproject.toml" "$3/"
  (cd "$3" && "$python" -m pytest -q -p no:cacheprovider "${core[@]/#/tests/}") >"$log" 2>&1
  local code=$?
  [[ $code == 0 ]] || grep -E "^(FAILED|ERROR|E  )" "$log" | head -40 >&2
  echo "$(tail -1 "$log" | tr -d =) |$(with_numpy2)"
  return $code
}

results=()
failed=0
for pair in "${pairs[@]}"; do
  directory=${ENVIRONMENTS:+$ENVIRONMENTS/$pair}
  directory=${directory:-$(mktemp -d)}
  mkdir -p "$directory"
  result=$(try "${pair%@*}" "${pair#*@}" "$directory") || failed=1
  [[ ${ENVIRONMENTS:-} ]] || rm -rf "$directory"
  results+=("| ${pair%@*} | ${pair#*@} | $result")
  echo "${results[-1]}"
done
printf '\n| MindSpore | Python | core |'
printf ' NumPy %s |' "${numpy2[@]}"
printf '\n| --- | --- | --- |%s\n' "$(printf ' --- |%.0s' "${numpy2[@]}")"
printf '%s\n' "${results[@]}"
exit $failed
