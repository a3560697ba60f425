#!/usr/bin/env bash
# Check that a released model scores as published: score_published.sh cnndm|wmt14_en_de|wmt14_en_fr [--first N]
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq,summarization
rdrop score-published --data "$ROOT/data" "$@"
