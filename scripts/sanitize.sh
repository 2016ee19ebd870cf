#!/bin/bash
# Runs the native library's driver under AddressSanitizer with UndefinedBehaviorSanitizer and
# under ThreadSanitizer, for each instruction set: scripts/sanitize.sh [address|thread]...
# Needs cmake, ninja and a compiler with the sanitizers' runtimes (GCC's or Clang's).
set -euo pipefail
cd "$(dirname "$0")/.."

for sanitizer in "${@:-address thread}"; do
  for kind in $sanitizer; do
    build=build/sanitize-$kind
    cmake -S . -B "$build" -G Ninja -DBN3D_NATIVE_TESTS=ON -DBN3D_SANITIZE="$kind" >/dev/null
    cmake --build "$build"
    for isa in baseline avx2 avx512; do
      if [[ $isa != baseline ]] && ! grep -qw "${isa/512/512bw}" /proc/cpuinfo; then
        echo "$kind, $isa: not run, this processor has none"
        continue
      fi
      echo "$kind, instruction set at most $isa:"
      # A detached pool outlives main() by design.
      BN3D_ISA=$isa ASAN_OPTIONS=detect_leaks=1 TSAN_OPTIONS="halt_on_error=1 report_thread_leaks=0" \
        "$build/tests/native/driver" "$build/op_impl/cpu/libbn3d_cpu.so"
    done
  done
done
