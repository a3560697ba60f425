#!/usr/bin/env bash
# Translate a test set and score it by every convention: score_bleu.sh DATA CHECKPOINT... [-- fairseq-generate options]
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq
rdrop score "$@"
