#!/bin/bash
# Runs the native library under sanitizers: scripts/sanitize.sh [address|thread|python]...
#   address, thread   its driver, for each instruction set, and its pool of threads, under
#                     AddressSanitizer with UndefinedBehaviorSanitizer, and under ThreadSanitizer
#   python            the tests that call it from Python, by ctypes and in MindSpore's layers,
#                     under AddressSanitizer with UndefinedBehaviorSanitizer
# Needs cmake, ninja and GCC with the sanitizers' runtimes; `python` also bn3d's test extra in .venv
# or in PYTHON=INTERPRETER.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/arguments.sh"
parse 3 "$@"
set -- ${arguments[@]+"${arguments[@]}"}
for kind; do
  [[ $kind =~ ^(address|thread|python)$ ]] || wrong "address, thread or python, got '$kind'"
done
cd "$(dirname "$0")/.."

build() { # build address|thread: into build/sanitize-KIND
  cmake -S . -B "build/sanitize-$1" -G Ninja -DBN3D_NATIVE_TESTS=ON -DBN3D_SANITIZE="$1" >/dev/null
  cmake --build "build/sanitize-$1"
}

run_driver() { # run_driver address|thread
  local isa streamed build=build/sanitize-$1
  # A detached pool outlives main() by design.
  export ASAN_OPTIONS=detect_leaks=1 TSAN_OPTIONS="halt_on_error=1 report_thread_leaks=0"
  echo "$1:"
  "$build/tests/native/threads" pool
  for isa in baseline avx2 avx512; do
    if [[ $isa != baseline ]] && ! grep -qw "${isa/512/512bw}" /proc/cpuinfo; then
      echo "$1, $isa: not run, this processor has none"
      continue
    fi
    for streamed in "" 0; do
      echo "$1, instruction set at most $isa, past the caches${streamed:+ from $streamed bytes}:"
      BN3D_ISA=$isa BN3D_STREAMED_BYTES=$streamed \
        "$build/tests/native/driver" "$build/op_impl/cpu/libbn3d_cpu.so"
    done
  done
}

run_python() {
  local package python=${PYTHON:-.venv/bin/python}
  package=$(mktemp -d)
  cp -r python/bn3d "$package"
  cp build/sanitize-address/op_impl/cpu/libbn3d_cpu.so "$package/bn3d/"
  # Leaks are not looked for: Python and MindSpore leave memory to the end of the process.
  LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
    ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=$package "$python" -m pytest -q -p no:cacheprovider \
    tests/backends/test_native.py tests/backends/test_choice.py tests/layers/test_derivatives.py
  rm -rf "$package"
}

[[ $# -gt 0 ]] || set -- address thread python
for kind; do
  build "${kind/python/address}"
  if [[ $kind == python ]]; then run_python; else run_driver "$kind"; fi
done
