#!/bin/sh
# Installs the Ascend operator package on hosts over ssh: scripts/deploy.sh HOST... [OPTION...]
# The options are those of `bn3d opp deploy --help`.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
PYTHONPATH="$root/python${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python3}" -c '
from bn3d.opp.cli import app

app(prog_name="bn3d opp")
' deploy "$@"
