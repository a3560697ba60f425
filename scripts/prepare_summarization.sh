#!/usr/bin/env bash
# Prepare {train,val,test}.{source,target}, or XSum's own files, for BART: prepare_summarization.sh DIR [--out DIR]
# Disk and time for XSum, estimated from its archive, not measured: 15 GB; up to an hour on 8 cores.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq,summarization
rdrop prepare summarization --data "$ROOT/data" --models "$ROOT/data" "$@"
