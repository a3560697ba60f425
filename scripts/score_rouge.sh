#!/usr/bin/env bash
# ROUGE-1/2/L/Lsum by every convention, with intervals: score_rouge.sh SUMMARIES REFERENCES [--published cnndm|xsum]
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python summarization
if [[ $# -lt 2 || $1 == -* ]]; then rdrop rouge --help; exit; fi
hyp=$1 ref=$2
shift 2
rdrop rouge --hyp "$hyp" --ref "$ref" "$@"
