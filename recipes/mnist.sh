#!/usr/bin/env bash
# The paper's experiment on MNIST (section 3): what soft targets teach nets that read digits.
#
#   recipes/mnist.sh            experiments 1 to 3, shortened: about five minutes on two cores
#   recipes/mnist.sh --full     all seven, at the length that the tables were made with
#
# Options: --data-dir DIR   where MNIST's four files lie (else they are downloaded)
#          --exp-dir DIR    where everything goes (default: exp/mnist, exp/mnist-full)
#          --config FILE    the rows of the experiment (default: recipes/conf/mnist.yaml)
#          --dev            hold out 10,000 train images and measure on them: to choose settings
#          --jobs N         nets trained at once (default: one a core)
#
# What is current is passed over, what was interrupted goes on: the same command, run again.
set -euo pipefail
source "$(dirname "$0")/common.sh"

options=()

while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --full | --dev) options+=("$1"); shift ;;
    --data-dir | --exp-dir | --config | --jobs)
      [ $# -ge 2 ] || fail "$1 needs a value"
      case $1 in
        --jobs) options+=("$1" "$2") ;;
        --config) options+=("$1" "$(settings "$2")") ;;
        *) options+=("$1" "$(absolute "$2")") ;;
      esac
      shift 2
      ;;
    *) fail "unknown option $1 (see recipes/mnist.sh --help)" ;;
  esac
done

cd "$(dirname "$0")/.."
tools/setup.sh
exec .venv/bin/acoustic-kd mnist ${options[@]+"${options[@]}"}
