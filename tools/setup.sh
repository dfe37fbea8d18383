#!/usr/bin/env bash
# Make .venv with the package and what it needs, unless it is there and current.
# usage: tools/setup.sh [EXTRA,EXTRA]      (demo, dev)
set -euo pipefail
cd "$(dirname "$0")/.."

extras=${1:-demo}
# What is installed is a matter of pyproject.toml and the extras; a stamp says which these were.
wanted=$(cksum pyproject.toml)
for stamp in ".venv/installed-$extras" .venv/installed-demo,dev; do  # the second has everything
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    exit 0
  fi
done

python=${PYTHON:-}
if [ -z "$python" ]; then
  for name in python3.12 python3.11 python3.13 python3.10 python3; do
    if command -v "$name" >/dev/null && "$name" -c \
      'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null
    then
      python=$name
      break
    fi
  done
fi
if [ -z "$python" ]; then
  echo "setup: no Python 3.10 to 3.13 with venv found; install one, or set PYTHON=/path/to/it" >&2
  exit 2
fi

echo "setup: installing into .venv with $($python --version) (about two minutes, 5 GB)" >&2
[ -x .venv/bin/python ] || "$python" -m venv .venv
log=.venv/setup.log
if ! .venv/bin/python -m pip install --disable-pip-version-check -e ".[$extras]" >"$log" 2>&1; then
  tail -n 5 "$log" >&2
  echo "setup: pip failed; the whole output is in $log" >&2
  exit 2
fi
echo "$wanted" >".venv/installed-$extras"
