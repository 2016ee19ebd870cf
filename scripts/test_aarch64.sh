#!/bin/bash
# Cross-compiles the native library and its driver for aarch64, runs the driver under qemu-user and
# compares its digest with this machine's: all results are to be the same, bit for bit. The pool of
# threads runs by itself, too.
#
#     scripts/test_aarch64.sh [MOST]
#
# MOST leaves out volumes of more values, which take the emulator long: with 140000 every entry
# point, dtype and split still runs, without the volumes that are larger than the caches.
# On Debian: apt-get install g++-aarch64-linux-gnu qemu-user ninja-build
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/arguments.sh"
parse 1 "$@"
most=(${arguments[@]+"${arguments[@]}"})
[[ ${#most[@]} == 0 ]] || number "${most[0]}"
cd "$(dirname "$0")/.."

run() { # run BUILD COMMAND...: prints what the driver says
  local build=$1
  shift
  cmake --build "$build" >&2
  "$@" "$build/tests/native/threads" pool >&2
  BN3D_STREAMED_BYTES=0 "$@" "$build/tests/native/driver" "$build/op_impl/cpu/libbn3d_cpu.so" \
    ${most[@]+"${most[@]}"} | tee -a /dev/stderr
}

cmake -S . -B build/aarch64 -G Ninja -DBN3D_NATIVE_TESTS=ON \
  -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake >/dev/null
cmake -S . -B build/native-tests -G Ninja -DBN3D_NATIVE_TESTS=ON >/dev/null
aarch64=$(run build/aarch64 qemu-aarch64 -L /usr/aarch64-linux-gnu)
here=$(run build/native-tests)

if [[ ${aarch64##*digest } != "${here##*digest }" ]]; then
  echo "aarch64 gives other results than $(uname -m)" >&2
  exit 1
fi
echo "aarch64 and $(uname -m) agree in every bit"
