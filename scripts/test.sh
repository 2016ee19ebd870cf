#!/usr/bin/env bash
# Sets up .venv, checks the style and passes every test; arguments go to pytest.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/setup_venv.sh"
setup_venv test torch
cd "$ROOT"
bin=$ROOT/.venv/bin

"$bin/ruff" check .
"$bin/ruff" format --check .
git ls-files '*.cc' '*.h' | xargs "$bin/clang-format" --dry-run -Werror

exec "$PYTHON" -m pytest "$@"
