#!/bin/bash
# Looks for known vulnerabilities in the locked test environment, with pip-audit (pip install
# pip-audit), which asks PyPI about each package: scripts/audit.sh
# Fails as well where PyPI does not answer, as many a mirror of it does not;
# scripts/audit_offline.py then compares with advisories in a folder.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/arguments.sh"
parse 0 "$@"
cd "$(dirname "$0")/.."
exec "${PYTHON:-python3}" -m pip_audit --strict --no-deps --disable-pip \
  -r requirements-test.lock
