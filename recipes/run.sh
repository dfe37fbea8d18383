#!/usr/bin/env bash
# From audio to the table: baseline, ensemble and distilled model, in frame accuracy and WER.
#
#   recipes/run.sh                                        the demo, speech synthesised on the spot
#   recipes/run.sh --config demo_es                       likewise in Spanish; demo_el: Greek
#   recipes/run.sh --config an4 --data-dir DIR
#   recipes/run.sh --config mini_librispeech              downloaded, 0.3 GB; and likewise
#                                                         librispeech_100 (7 GB) and
#                                                         librispeech_960_paper (60 GB)
#   recipes/run.sh --config mine.yaml --data-dir DIR      a settings file of your own
#   recipes/run.sh corpus.name=kaldi_dir --data-dir DIR   your own speech (docs/corpora.md)
#
# Options: --config NAME_OR_FILE      settings: a name in recipes/conf, or a file (default: demo)
#          --stage N --stop-stage N   run only these stages (numbers or names)
#          --data-dir DIR             where the corpus lies, or LibriSpeech is to be downloaded
#                                     (default: $ACOUSTIC_KD_DATA; for downloads a folder in exp/)
#          --exp-dir DIR              where everything goes (default: exp/NAME of the settings)
#          --dry-run                  say of each stage whether it is current, and why not; run nothing
#          --num-processes N          train and write soft targets on N processes or GPUs
#          KEY.SUBKEY=VALUE …         any setting, such as train.members=10 model.width=2560
#          lm.text=FILE        text for the language model (docs/language-model.md)
#          corpus.untranscribed=DIR   distil on speech without transcripts, too (a Kaldi directory)
#
# What is current is passed over, what was interrupted goes on: the same command, run again.
set -euo pipefail
source "$(dirname "$0")/common.sh"

config=demo
stage=0
stop_stage=report
processes=1
dry_run=()
options=()
overrides=()

while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --config | --data-dir | --exp-dir | --stage | --stop-stage | --num-processes)
      [ $# -ge 2 ] || fail "$1 needs a value"
      case $1 in
        --config) config=$(settings "$2") ;;
        --data-dir | --exp-dir) options+=("$1" "$(absolute "$2")") ;;
        --stage) stage=$2 ;;
        --stop-stage) stop_stage=$2 ;;
        --num-processes) processes=$2 ;;
      esac
      shift 2
      ;;
    --dry-run) dry_run=(--dry-run); shift ;;
    -*) fail "unknown option $1 (see recipes/run.sh --help)" ;;
    align.pdf_ali=* | align.pdf_post=*)
      overrides+=("${1%%=*}=$(archive "${1#*=}")")
      shift
      ;;
    soft_targets.external_posteriors=*) # a path, or [PATH, PATH]
      value=${1#*=} list=
      value=${value#[}
      IFS=, read -ra paths <<<"${value%]}"
      for path in ${paths[@]+"${paths[@]}"}; do list+=", $(archive "${path# }")"; done
      overrides+=("${1%%=*}=[${list#, }]")
      shift
      ;;
    align.model=* | corpus.data_dir=* | corpus.untranscribed=* | lm.text=*)
      overrides+=("${1%%=*}=$(absolute "${1#*=}")")
      shift
      ;;
    align.lexicon=* | lm.arpa=*) # a path, or one of LibriSpeech's own by its name
      value=${1#*=}
      if [ -e "$value" ]; then value=$(absolute "$value"); fi
      overrides+=("${1%%=*}=$value")
      shift
      ;;
    *=*) overrides+=("$1"); shift ;;
    *) fail "expected KEY.SUBKEY=VALUE, got '$1' (see recipes/run.sh --help)" ;;
  esac
done

cd "$(dirname "$0")/.."
bin=.venv/bin

#       name          on several processes
stages=(
  "corpus           one"
  "features         one"
  "align            one"
  "senones          one"
  "frames           one"
  "train            many"
  "copies           one"
  "soft-targets     many"
  "distill          many"
  "graph            one"
  "decode           one"
  "report           one"
)

# A stage's number from its number or name.
number() {
  local n name
  for n in "${!stages[@]}"; do
    read -r name _ <<<"${stages[n]}"
    if [ "$1" = "$n" ] || [ "$1" = "$name" ]; then echo "$n"; return; fi
  done
  fail "no stage '$1': stages are 0 (corpus) to $((${#stages[@]} - 1)) (report)"
}

case $processes in '' | *[!0-9]* | 0) fail "--num-processes: '$processes' is no number of processes" ;; esac
first=$(number "$stage")
last=$(number "$stop_stage")
[ "$first" -le "$last" ] || fail "--stage $stage comes after --stop-stage $stop_stage"

if [ ${#dry_run[@]} = 0 ]; then
  tools/setup.sh
elif ! tools/setup.sh --dry-run; then # only an installed program knows which stages are current
  echo "stages $first to $last: would run then, except those that are current"
  exit 0
fi

# What the settings file says of itself: what will happen, and how long it takes.
file=$config
[ -f "$file" ] || file=recipes/conf/$config.yaml
[ ! -f "$file" ] || sed -n '/^#/!q;s/^# //p' "$file"

# With one process there is nothing to launch.
launch() {
  if [ "$processes" = 1 ]; then
    "$bin/acoustic-kd" "$@"
  else
    "$bin/python" -m acoustic_kd.launch "$processes" "$@"
  fi
}

begun=$SECONDS
for ((n = first; n <= last; n++)); do
  read -r name how <<<"${stages[n]}"
  echo "stage $n: $name"
  command=("$bin/acoustic-kd")
  [ "$how" = many ] && [ ${#dry_run[@]} = 0 ] && command=(launch)
  "${command[@]}" "$name" ${dry_run[@]+"${dry_run[@]}"} --config "$config" ${options[@]+"${options[@]}"} \
    ${overrides[@]+"${overrides[@]}"} || exit $?
done
echo "stages $first to $last: $((SECONDS - begun)) s"
