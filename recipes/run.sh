#!/usr/bin/env bash
# From audio to the table: baseline, ensemble, control and distilled model, in frame accuracy and
# WER. Sets up .venv if necessary, then runs `acoustic-kd run`, which explains all options (--help).
#
#   recipes/run.sh                                        the demo, on synthesised speech
#   recipes/run.sh --config demo_es                       the demo in Spanish; demo_el: in Greek
#   recipes/run.sh --config an4 --data-dir DIR
#   recipes/run.sh --config mini_librispeech              downloads 0.8 GB; in the same way
#                                                         librispeech_100 (7 GB) and
#                                                         librispeech_960_paper (60 GB)
#   recipes/run.sh --config mine.yaml --data-dir DIR      your own settings file
#   recipes/run.sh corpus.name=kaldi_dir --data-dir DIR   your own speech (docs/corpora.md)
#   recipes/run.sh --stage train --stop-stage distill     some stages, by number or name
#   recipes/run.sh --dry-run                              prints which stages would run, and why
#
# Options: --config NAME_OR_FILE --data-dir DIR --exp-dir DIR --stage N --stop-stage N
#          --num-processes N --dry-run KEY.SUBKEY=VALUE …; paths are relative to the working directory
set -euo pipefail
source "$(dirname "$0")/common.sh" run "$@"
