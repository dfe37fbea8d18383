# Set up the checkout, then run a verb of acoustic-kd with the arguments of the recipe; read by the
# recipes, not run.

repository=$(dirname "${BASH_SOURCE[0]}")/..
for argument in "${@:2}"; do
  case $argument in
    -h | --help | --dry-run) # neither installs anything
      "$repository/tools/setup.sh" --dry-run && break
      if [ "$argument" = --dry-run ]; then
        echo "after that, all stages that are out of date would run"
        exit 0
      fi
      sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"
      exit 0
      ;;
  esac
done
"$repository/tools/setup.sh"
exec "$repository/.venv/bin/acoustic-kd" "$@"
