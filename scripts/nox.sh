# Sourced by the scripts beside it: `run_nox SESSION [ARGUMENT...]` goes on in noxfile.py. nox and uv
# are in .nox/nox, an environment of their own; pip makes it, by the first Python that bn3d takes.

run_nox() {
  local root python
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  python=$root/.nox/nox/bin/python
  "$python" -c 'import nox, uv' 2>/dev/null || make_nox "$root/.nox/nox" || exit 1
  exec "$python" -m nox --noxfile "$root/noxfile.py" --session "$1" -- "${@:2}"
}

make_nox() {
  local candidate
  for candidate in python3.11 python3.12 python3.10 python3 python; do
    "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
      2>/dev/null || continue
    if ! "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
      echo "$candidate cannot make virtual environments (no ensurepip):" \
        "on Debian and Ubuntu install its python3-venv package. Trying the next Python." >&2
      continue
    fi
    rm -rf "$1"
    "$candidate" -m venv "$1" || continue
    "$1/bin/python" -m pip install --disable-pip-version-check --quiet 'nox[uv]>=2025.5.1' && return
    echo "pip could not install nox and uv; its message is above." >&2
    return 1
  done
  echo "bn3d needs Python 3.10, 3.11 or 3.12 with venv; none works on this machine." >&2
  return 1
}
