#!/usr/bin/env bash
# Classes of sentences, or GLUE's submission files: predict.sh CHECKPOINT DATA [FILE] [--glue TASK --out DIR] [options]
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq,summarization
rdrop predict "$@"
