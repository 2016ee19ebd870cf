#!/bin/bash
# Installs bn3d in every way that users do, each in a directory of its own whose name has a space,
# trains a layer with it, and uninstalls it again: scripts/test_install.sh [WAY...]
# Ways: wheel sdist editable no-compiler native-off offline user. Set PYTHON for another interpreter.
# MindSpore and the other dependencies come from the environment of PYTHON (system-site-packages),
# so that interpreter needs them, with pip, build, scikit-build-core and auditwheel.
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD
PYTHON=${PYTHON:-python3}
work=$(mktemp -d "${TMPDIR:-/tmp}/bn3d install.XXXXXX")
trap 'rm -rf "$work"' EXIT
ways=("$@")
[[ ${#ways[@]} == 0 ]] && ways=(wheel sdist editable no-compiler native-off offline user)

# A copy as a clone has it, so that nothing that was built here helps.
git archive --format=tar --prefix=source/ HEAD | tar -x -C "$work"
cd "$work" || exit 1

fresh() { # fresh NAME: a virtual environment that sees the dependencies
  "$PYTHON" -m venv --without-pip "$work/$1" || return
  local site
  site=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  echo "$site" >"$(echo "$work/$1"/lib/python3*/site-packages)/dependencies.pth"
  python="$work/$1/bin/python"
}

pip() { "$python" -m pip "$@" --quiet --disable-pip-version-check; }

install() { pip install --no-deps --no-build-isolation "$@"; }

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
  if [[ $1 == wheel ]]; then
    pip wheel --no-deps --no-build-isolation -w "$work/dist" "$work/source"
  else
    (cd "$work/source" && "$PYTHON" -c "
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
      fresh editable && install --editable "$work/source" && trains native && leaves_nothing ;;
    no-compiler)
      # cmake and ninja without any compiler; CC and CXX name none either.
      mkdir -p "$work/tools" && ln -sf "$(command -v cmake)" "$(command -v ninja)" "$work/tools/"
      fresh "no compiler" && PATH="$work/tools" CC= CXX= install "$work/source" &&
        trains composed && leaves_nothing ;;
    native-off)
      fresh native-off && CMAKE_ARGS=-DBN3D_NATIVE=OFF install "$work/source" &&
        trains composed && leaves_nothing ;;
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
    *) echo "no such way: $1"; return 2 ;;
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
