#!/usr/bin/env bash
# Sets up .venv, checks the style and the types and passes every test, or those that are named:
# scripts/test.sh [TEST...] [-- OPTION_OF_PYTEST...]
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/arguments.sh"
tests=()
while (($#)) && [[ $1 != -- ]]; do
  tests+=("$1")
  shift
done
parse 1000 ${tests[@]+"${tests[@]}"}
tests=(${arguments[@]+"${arguments[@]}"} "${@:2}")

source "$(dirname "${BASH_SOURCE[0]}")/setup_venv.sh"
setup_venv test torch
cd "$ROOT"
bin=$ROOT/.venv/bin

"$bin/ruff" check .
"$bin/ruff" format --check .
"$bin/mypy"
git ls-files '*.cc' '*.h' | xargs "$bin/clang-format" --dry-run -Werror

# Two at a time, a file in one process: most tests keep one core busy, and some start others.
exec "$PYTHON" -m pytest --numprocesses 2 --dist loadfile ${tests[@]+"${tests[@]}"}
