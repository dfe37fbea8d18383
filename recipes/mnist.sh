#!/usr/bin/env bash
# The paper's experiment on MNIST (section 3): what nets that read digits learn from soft targets.
# Sets up .venv if necessary, then runs `acoustic-kd mnist`, which explains all options (--help).
#
#   recipes/mnist.sh            experiments 1 to 3, shortened: about five minutes on two cores
#   recipes/mnist.sh --full     all seven, at the length that the tables were made with
#   recipes/mnist.sh --data-dir DIR    reads MNIST's four files from DIR instead of downloading them
#
# Options: --full --dev --data-dir DIR --exp-dir DIR --config NAME_OR_FILE --jobs N
set -euo pipefail
source "$(dirname "$0")/common.sh" mnist "$@"
