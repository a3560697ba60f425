#!/usr/bin/env bash
# Is R-Drop better than the baseline? compare.sh BASELINE RDROP (what score_bleu.sh wrote, or text files with --ref)
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq
rdrop compare "$@"
