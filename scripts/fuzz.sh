#!/bin/bash
# Fuzzes the C interface of the native library with libFuzzer under AddressSanitizer and
# UndefinedBehaviorSanitizer: scripts/fuzz.sh [EXECUTIONS], by default a million.
# Needs Clang with its runtimes: on Debian, apt-get install clang libclang-rt-14-dev.
# An input that fails is left in build/fuzz/findings/.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/arguments.sh"
parse 1 "$@"
executions=${arguments[0]-1000000}
number "$executions"
cd "$(dirname "$0")/.."
build=build/fuzz

cmake -S . -B "$build" -G Ninja -DCMAKE_CXX_COMPILER=clang++ -DBN3D_FUZZ=ON \
  -DBN3D_SANITIZE=address >/dev/null
cmake --build "$build"
mkdir -p "$build/corpus" "$build/findings"
BN3D_LIBRARY=$build/op_impl/cpu/libbn3d_cpu.so ASAN_OPTIONS=allocator_may_return_null=1:quarantine_size_mb=16 \
  "$build/tests/native/fuzz" "$build/corpus" -runs="$executions" -max_len=400 -timeout=20 -detect_leaks=0 \
  -artifact_prefix="$build/findings/" -print_final_stats=1
