#!/usr/bin/env bash
# Set up and run every check: lint, types, then the tests, on two cores, slow ones last.
# usage: tools/test.sh [PYTEST OPTION …]
set -euo pipefail
cd "$(dirname "$0")/.."

tools/setup.sh
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
# A file's tests share what they prepare, so a file stays on one core.
exec .venv/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder "$@"
