#!/usr/bin/env bash
# Make or renew .venv with exactly what requirements.lock names; quick if it is current.
# usage: tools/setup.sh [--dry-run]   (--dry-run installs nothing; exit status 1: not current)
set -euo pipefail
cd -- "$(dirname -- "$0")/.."

fail() {
  echo "setup: $1" >&2
  exit 2
}

usable() {
  "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 14))'
} >/dev/null 2>&1

case ${1:-} in
  "" | --dry-run) ;;
  demo | demo,dev) ;; # of older versions, which named extras; now all are installed
  *) fail "unknown argument '$1'; the only one is --dry-run" ;;
esac

if .venv/bin/python -I -S tools/setup.py --check 2>/dev/null; then exit 0; fi
if [ "${1:-}" = --dry-run ]; then
  echo "setup: would install requirements.lock into .venv (about 2 minutes, 7 GB)"
  exit 1
fi

python=${PYTHON:-}
if [ -n "$python" ]; then
  command -v -- "$python" >/dev/null ||
    fail "PYTHON=$python is no program; give the path of a Python"
  usable "$python" || fail "PYTHON=$python is no Python 3.10 to 3.13 with venv; give another one"
else
  # For Python 3.12 and 3.10 pocketsphinx has no wheel: pip builds it, which needs a C compiler.
  for name in .venv/bin/python python3.11 python3.13 python3.12 python3.10 python3; do
    if usable "$name"; then python=$name && break; fi
  done
  [ -n "$python" ] ||
    fail "no Python 3.10 to 3.13 with venv found; install one, or set PYTHON=/path/to/it"
fi
exec "$python" -I tools/setup.py
