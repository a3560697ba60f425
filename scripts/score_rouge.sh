#!/usr/bin/env bash
# ROUGE-1/2/L/Lsum by every convention, with intervals: score_rouge.sh SUMMARIES REFERENCES [--published cnndm|xsum]
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python summarization
if [[ -n $HELP ]]; then
    rdrop rouge --help
    exit
fi
[[ $# -ge 2 && $1 != -* ]] || die "give a file of summaries and one of references: score_rouge.sh SUMMARIES REFERENCES"
hyp=$1 ref=$2
shift 2
rdrop rouge --hyp "$hyp" --ref "$ref" "$@"
