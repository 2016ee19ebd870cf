#!/bin/sh
# Installs the Ascend operator package on hosts over ssh: scripts/deploy.sh HOST... [OPTION...]
# The options are those of `bn3d opp deploy --help`. PYTHON names the interpreter; without it, that
# of .venv is taken, or python3.
set -eu
help=
for argument; do
  case $argument in -h | --help) help=1 ;; esac
done
[ -z "$help" ] || sed -n '2,/^[^#]/{s/^# \{0,1\}//p;}' "$0"
root=$(cd "$(dirname "$0")/.." && pwd)
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3
python=${PYTHON:-$python}
"$python" -c 'import sys, rich, typer; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || {
  [ -z "$help" ] || exit 0
  echo "deploy.sh: $python is no Python 3.10 or later with typer and rich: set PYTHON to one, or" \
    "install them with: $python -m pip install typer rich" >&2
  exit 2
}
PYTHONPATH="$root/python${PYTHONPATH:+:$PYTHONPATH}" exec "$python" -c '
from bn3d.opp.cli import app

app(prog_name="bn3d opp")
' deploy "$@"
