# What the recipes share; read by them, not run.

# One line that says what is wrong, and the exit status of what the user can mend.
fail() {
  echo "$(basename "$0"): error: $1" >&2
  exit 2
}

# The comment at the head of the recipe.
usage() { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"; }

# Paths on the command line are relative to where it was typed.
from=$PWD
absolute() { case $1 in /* | null) echo "$1" ;; *) echo "$from/$1" ;; esac }
settings() { if [ -f "$1" ]; then absolute "$1"; else echo "$1"; fi; } # else a name
archive() { # likewise, of Kaldi's, with `ark:` or `scp:` before it or without
  case $1 in ark[:,]* | scp[:,]*) echo "${1%%:*}:$(absolute "${1#*:}")" ;; *) absolute "$1" ;; esac
}
