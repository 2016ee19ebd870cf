#!/usr/bin/env bash
# Builds the Ascend operator package: scripts/build_opp.sh [aarch64]
# Needs ASCEND_HOME_PATH (CANN's set_env.sh sets it), CMake 3.21 and a C++ compiler.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/arguments.sh"
parse 1 "$@"
machine=$(uname -m)
arch=${arguments[0]-$machine}
preset=opp
if [[ $arch == aarch64 && $machine != aarch64 ]]; then
  preset=opp-aarch64
elif [[ $arch != "$machine" ]]; then
  wrong "cannot build for '$arch' on $machine"
fi
for variable in ASCEND_HOME_PATH ASCEND_TOOLKIT_HOME; do # CMake would begin at the sources
  [[ -z ${!variable-} ]] || export "$variable=$(realpath -m -- "${!variable}")"
done
cd "$(dirname "$0")/.."
rm -f "build/$preset"/*.run # of other versions or another CANN, which build/opp*/*.run would name, too
cmake --preset "$preset"
cmake --build --preset "$preset"
ls "build/$preset"/*.run
