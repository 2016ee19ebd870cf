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

source "$(dirname "${BASH_SOURCE[0]}")/nox.sh"
run_nox tests ${tests[@]+"${tests[@]}"}
