#!/usr/bin/env bash
# Set up and run every check: lint, then the tests, fast ones first.
# usage: tools/test.sh [PYTEST OPTION …]
set -euo pipefail
cd "$(dirname "$0")/.."

tools/setup.sh demo,dev
.venv/bin/ruff check .
.venv/bin/ruff format --check .
exec .venv/bin/python -m pytest "$@"
