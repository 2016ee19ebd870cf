#!/usr/bin/env bash
# Sets up .venv, then trains the brain segmentation demo:
# scripts/demo.sh [--steps N] [--seed N] [--output FOLDER] [--quick]
#   --steps     training steps of each run (180)
#   --seed      seed of the weights and of the patches (0)
#   --output    folder of report.html (build/demo in the repository)
#   --quick     a few steps: does it run? Gives no verdict
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/arguments.sh"
options=() others=()
while (($#)); do
  case $1 in
    --steps | --seed | --output)
      (($# > 1)) || wrong "$1 needs a value"
      options+=("$1=$2")
      shift
      ;;
    --steps=* | --seed=* | --output=* | --quick) options+=("$1") ;;
    *) others+=("$1") ;;
  esac
  shift
done
for option in ${options[@]+"${options[@]}"}; do
  [[ $option =~ ^(--quick$|--output=.|--steps=[1-9][0-9]*$|--seed=[0-9]+$) ]] || wrong "not so: $option"
done
parse 0 ${others[@]+"${others[@]}"}

source "$(dirname "${BASH_SOURCE[0]}")/nox.sh"
run_nox demo ${options[@]+"${options[@]}"}
