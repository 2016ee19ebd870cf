#!/bin/bash
# Installs bn3d in every way that users do, each in a directory of its own whose name has a space,
# trains a layer with it, and uninstalls it again: scripts/test_install.sh [WAY...]
# Ways: wheel sdist editable no-compiler (which fails, and says how to go on) native-off (without a
# compiler, too) old-systems (a wheel of scripts/wheels.sh) offline user. Set PYTHON for another interpreter.
# MindSpore and the other dependencies come from the environment of PYTHON (system-site-packages),
# so that interpreter needs them, with pip, scikit-build-core, cmake, ninja and auditwheel; for
# `user`, at a place that every user may read.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/arguments.sh"
parse 100 "$@"
all=(wheel sdist editable no-compiler native-off old-systems offline user)
ways=(${arguments[@]+"${arguments[@]}"})
[[ ${#ways[@]} == 0 ]] && ways=("${all[@]}")
for name in "${ways[@]}"; do
  [[ " ${all[*]} " == *" $name "* ]] || wrong "no such way: '$name'"
done
cd "$(dirname "$0")/.." || exit 1
root=$PWD
PYTHON=${PYTHON:-python3}
work=$(mktemp -d "${TMPDIR:-/tmp}/bn3d install.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

sources() { # sources NAME: a copy as a clone has it, so that nothing that was built helps
  mkdir -p "$work/sources of $1" &&
    git -C "$root" archive --format=tar HEAD | tar -x -C "$work/sources of $1"
}

fresh() { # fresh NAME: a virtual environment that sees the dependencies
  "$PYTHON" -m venv --without-pip "$work/$1" || return
  local site
  site=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  echo "$site" >"$(echo "$work/$1"/lib/python3*/site-packages)/dependencies.pth"
  python="$work/$1/bin/python"
}

pip() { "$python" -m pip "$@" --quiet --disable-pip-version-check; }

# --ignore-installed: PYTHON may have a bn3d of its own.
install() { pip install --ignore-installed --no-deps --no-build-isolation "$@"; }

# CMake looks in /usr/bin whatever the PATH is; a compiler that is not there stops that.
without_compiler() { CC=/nonexistent/cc CXX=/nonexistent/c++ "$@"; }

trains() { # trains BACKEND
  (cd / && "$python" - "$1" <<'PYTHON'
import sys
import mindspore as ms, numpy as np
import bn3d
x = np.random.default_rng(0).standard_normal((2, 3, 2, 4, 4)).astype(np.float32)
y = bn3d.BatchNorm3d(3).set_train()(ms.Tensor(x)).asnumpy()
assert abs(y.mean()) < 1e-6 and abs(y.std() - 1) < 1e-3
assert bn3d.info().backend == sys.argv[1], bn3d.info()
PYTHON
  ) && (cd / && "$(dirname "$python")/bn3d" --help >/dev/null)
}

leaves_nothing() {
  pip uninstall --yes bn3d || return
  local left
  left=$(find "$(dirname "$python")/.." -iname '*bn3d*' | grep -v __pycache__)
  [[ -z $left ]] || { echo "left behind: $left"; return 1; }
}

build() { # build wheel|sdist: into $work/dist
  python=$PYTHON
  sources "$1" || return
  if [[ $1 == wheel ]]; then
    pip wheel --no-deps --no-build-isolation -w "$work/dist" "$work/sources of wheel"
  else
    (cd "$work/sources of sdist" && "$PYTHON" -c "
import sys
from scikit_build_core.build import build_sdist
build_sdist(sys.argv[1])" "$work/dist" >/dev/null)
  fi
}

way() {
  case $1 in
    wheel)
      build wheel && "$PYTHON" -m auditwheel show "$work"/dist/*.whl && fresh wheel &&
        install "$work"/dist/*.whl && trains native && leaves_nothing ;;
    sdist)
      build sdist && fresh sdist && install "$work"/dist/*.tar.gz && trains native &&
        leaves_nothing ;;
    editable)
      sources editable && fresh editable && install --editable "$work/sources of editable" &&
        trains native && leaves_nothing ;;
    no-compiler)
      sources no-compiler && fresh "no compiler" || return
      local said
      said=$(without_compiler install "$work/sources of no-compiler" 2>&1) &&
        echo "installed without a compiler" && return 1
      grep -q "needs a C++ compiler" <<<"$said" && grep -q "CMAKE_ARGS=-DBN3D_NATIVE=OFF" <<<"$said" ||
        { echo "does not say what to do: $said"; return 1; } ;;
    native-off)
      sources native-off && fresh native-off &&
        CMAKE_ARGS=-DBN3D_NATIVE=OFF without_compiler install "$work/sources of native-off" &&
        trains composed && leaves_nothing ;;
    old-systems)
      fresh old-systems && PYTHON=$PYTHON "$root/scripts/wheels.sh" "$work/old systems" &&
        install "$work/old systems"/*"$(uname -m).whl" && trains native && leaves_nothing ;;
    offline)
      [[ -e $(echo "$work"/dist/*.whl) ]] || build wheel
      fresh offline && install --no-index --find-links "$work/dist" bn3d && trains native &&
        leaves_nothing ;;
    user)
      # The owner is root or whoever runs this; the user has no right to write outside its own home.
      [[ $(id -u) == 0 ]] || { echo "not root: the other ways are this one"; return 0; }
      [[ -e $(echo "$work"/dist/*.whl) ]] || build wheel
      fresh user && install "$work"/dist/*.whl && chmod -R a+rX "$work" &&
        (cd / && setpriv --reuid=65534 --clear-groups env HOME=/nonexistent "$python" -c \
          "import bn3d, mindspore as ms; print(bn3d.info().backend); bn3d.BatchNorm3d(2)") ;;
  esac
}

failed=0
for name in "${ways[@]}"; do
  if way "$name" >"$work/log" 2>&1; then
    echo "ok      $name $(grep -o 'manylinux_[0-9_]*x86_64' "$work/log" | head -1)"
  else
    failed=1
    echo "FAILED  $name"
    sed 's/^/    /' "$work/log" | tail -20
  fi
done
exit $failed
