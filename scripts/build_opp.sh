#!/bin/sh
# Builds the Ascend operator package: scripts/build_opp.sh [aarch64]
# Needs ASCEND_HOME_PATH (CANN's set_env.sh sets it), CMake 3.21 and a C++ compiler.
set -eu
cd "$(dirname "$0")/.."
preset=opp
if [ "${1:-}" = aarch64 ] && [ "$(uname -m)" != aarch64 ]; then
  preset=opp-aarch64
elif [ -n "${1:-}" ] && [ "$1" != "$(uname -m)" ]; then
  echo "error: cannot build for $1 on $(uname -m)" >&2
  exit 1
fi
cmake --preset "$preset"
cmake --build --preset "$preset"
ls "build/$preset"/*.run
