#!/usr/bin/env bash
# Sets up .venv, then trains the brain segmentation demo; arguments go to it (--help).
# The report is build/demo/report.html in the repository unless --output says otherwise.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/setup_venv.sh"
setup_venv demo
exec "$PYTHON" "$ROOT/examples/brain_segmentation.py" --output "$ROOT/build/demo" "$@"
