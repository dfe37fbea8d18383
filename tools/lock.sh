#!/usr/bin/env bash
# Renew requirements.lock: resolve the newest permitted versions, install them into a temporary copy
# of the checkout, and test them there. Only if all this succeeds, the file is replaced.
# usage: tools/lock.sh
set -euo pipefail
cd -- "$(dirname -- "$0")/.."

tests=(
  tests/verbs/test_recipe.py
  tests/features/test_fbank.py
  tests/features/test_recordings.py
  tests/system/test_torchaudio_functions.py
  tests/runtime
  tests/training/test_processes.py
)

fail() {
  echo "lock: $1; requirements.lock is unchanged" >&2
  exit 1
}

# The markers without the condition that holds on every supported system.
simplify() {
  local systems="(platform_machine == 'arm64' and sys_platform == 'darwin')"
  systems+=" or sys_platform == 'linux'"
  sed -e "s/ and ($systems)//" -e "s/ ; $systems / /"
}

versions() { sed -n 's/^\([^ ]*==[^ ]*\) .*/\1/p' "$1"; }

tools/setup.sh
uv=$PWD/.venv/bin/uv
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
git ls-files -z --cached --others --exclude-standard |
  tar --null -T - -cf - | tar -xf - -C "$folder"

cd "$folder"
export UV_PYTHON_DOWNLOADS=never
export=(export --quiet --frozen --all-extras --no-emit-project --no-header --no-annotate)
{ "$uv" lock --quiet && "$uv" "${export[@]}" | simplify >requirements.lock; } ||
  fail "no set of versions satisfies pyproject.toml"
if cmp -s requirements.lock "$OLDPWD/requirements.lock"; then
  echo "lock: requirements.lock already names the newest permitted versions" >&2
  exit 0
fi
tools/setup.sh || fail "the new versions cannot be set up"
.venv/bin/python -m pytest "${tests[@]}" || fail "a test fails with the new versions"

cd "$OLDPWD"
diff <(versions requirements.lock) <(versions "$folder/requirements.lock") || true
cp "$folder/requirements.lock" requirements.lock
echo "lock: requirements.lock is renewed; run tools/test.sh, then commit it" >&2
