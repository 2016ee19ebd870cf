#!/usr/bin/env bash
# Writes requirements-test.lock, what the extra `test` needs on Python 3.11 with hashes:
#     scripts/lock.sh [--upgrade] [--upgrade-package=NAME]...
# Without an option the versions that are there stay, as far as pyproject.toml allows.
# Needs uv (pip install uv), and a CPU build of PyTorch where uv looks (UV_FIND_LINKS or UV_INDEX),
# so that PyTorch's own needs are locked without those of its CUDA build. PyTorch itself is not: any
# build of the version in pyproject.toml will do. UV_FIND_LINKS is pip's PIP_FIND_LINKS by default.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/arguments.sh"
options=() others=()
for argument; do
  case $argument in
    --upgrade | --upgrade-package=?*) options+=("$argument") ;;
    *) others+=("$argument") ;;
  esac
done
parse 0 ${others[@]+"${others[@]}"}
cd "$(dirname "$0")/.."
lock=requirements-test.lock
export UV_FIND_LINKS=${UV_FIND_LINKS-${PIP_FIND_LINKS-}}

uv pip compile --quiet --python-version 3.11 --extra test --generate-hashes --no-header \
  --no-emit-package torch --no-annotate --output-file "$lock" ${options[@]+"${options[@]}"} pyproject.toml
if grep -q '^nvidia-' "$lock"; then
  echo "lock.sh: uv found no CPU build of PyTorch, see above; $lock is not to be used" >&2
  exit 1
fi
# noxfile.py reads this line.
printf '# Python 3.11; made by scripts/lock.sh\n%s\n' "$(<"$lock")" >"$lock"
