#!/usr/bin/env bash
# Summaries of articles, one a line, from a file or stdin: summarize.sh CHECKPOINT DATA [FILE] [--out FILE] [options]
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq,summarization
rdrop summarize "$@"
