#!/usr/bin/env bash
# Set up and run every check: lint, types, then the tests, fast ones first.
# usage: tools/test.sh [PYTEST OPTION …]
set -euo pipefail
cd "$(dirname "$0")/.."

tools/setup.sh demo,dev
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
exec .venv/bin/python -m pytest "$@"
