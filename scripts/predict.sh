#!/usr/bin/env bash
# Predict classes of sentences, or GLUE's test sets: predict.sh CHECKPOINT DATA [FILE] [--glue TASK --out DIR] [options]
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq,summarization
rdrop predict "$@"
