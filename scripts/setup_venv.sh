# Sourced by the scripts beside it: `setup_venv EXTRA...` makes .venv in the repository's root,
# installs bn3d with these extras into it and sets PYTHON to its interpreter.
# An existing .venv is used again; pip runs only if the sources changed since. With the extra
# `test` the versions are those of requirements-test.lock, on the Python that it was made for.
# It is pip that installs, because pip is what a machine's owner has told where packages are. uv is
# several times faster, but reads none of pip's settings: where those name a CPU build of PyTorch it
# fetches the CUDA build, 20 more packages. It could be handed PIP_FIND_LINKS, but not a pip.conf.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

setup_venv() {
  PYTHON=$ROOT/.venv/bin/python
  "$PYTHON" -c 'import pip' 2>/dev/null || make_venv || return

  local extras wanted stamp version pip=("$PYTHON" -m pip install --disable-pip-version-check --quiet)
  extras=$(IFS=,; echo "$*")
  stamp=$ROOT/.venv/bn3d-$extras.installed
  wanted=$(fingerprint)
  [[ -f $stamp && $(<"$stamp") == "$wanted" ]] && return
  version=$("$PYTHON" --version)
  echo "Installing .[$extras] into $ROOT/.venv (the first time takes some minutes)" >&2
  {
    if [[ " $* " == *" test "* && $(<"$ROOT/requirements-test.lock") == "# ${version%.*};"* ]]; then
      "${pip[@]}" --require-hashes --requirement "$ROOT/requirements-test.lock"
    fi && "${pip[@]}" "$ROOT[$extras]"
  } || {
    echo "pip could not install .[$extras]; its message is above." >&2
    return 1
  }
  rm -f "$ROOT"/.venv/bn3d-*.installed # other extras belong to the older sources
  echo "$wanted" >"$stamp"
}

make_venv() {
  local candidate
  for candidate in python3.11 python3.12 python3.10 python3 python; do
    "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
      2>/dev/null || continue
    if ! "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
      echo "$candidate cannot make virtual environments (no ensurepip):" \
        "on Debian and Ubuntu install its python3-venv package. Trying the next Python." >&2
      continue
    fi
    rm -rf "$ROOT/.venv"
    "$candidate" -m venv "$ROOT/.venv" && return
  done
  echo "bn3d needs Python 3.10, 3.11 or 3.12 with venv; none works on this machine." >&2
  return 1
}

# What is installed comes from these; a change to any of them installs again.
fingerprint() {
  (cd "$ROOT" && find CMakeLists.txt CMakePresets.json pyproject.toml requirements-test.lock \
    cmake python op_proto op_impl \
    -type f -not -name '*.pyc' -not -name '*.so' -exec cksum {} + | sort | cksum)
}
