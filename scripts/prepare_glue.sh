#!/usr/bin/env bash
# Prepare GLUE for RoBERTa and fetch RoBERTa: archives -> data/glue/TASK/bin: prepare_glue.sh [TASK...] [options]
# Disk and time, estimated from the archives' sizes and not measured: 10 GB; minutes on 8 cores after downloading.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq,summarization
rdrop prepare glue --data "$ROOT/data" --models "$ROOT/data" "$@"
