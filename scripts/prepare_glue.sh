#!/usr/bin/env bash
# Prepare tasks of GLUE for RoBERTa, and RoBERTa: archives -> data/glue/TASK/bin: prepare_glue.sh [TASK...] [options]
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq,summarization
rdrop prepare glue --data "$ROOT/data" --models "$ROOT/data" "$@"
