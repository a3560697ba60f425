#!/usr/bin/env bash
# Make the IWSLT data from the raw archive, for one pair in both directions: prepare_iwslt14.sh [SRC TGT] [options]
# Disk and time, estimated from the archives' sizes and not measured: 1 GB; minutes on 4 cores after downloading.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq
rdrop prepare iwslt --data "$ROOT/data" "$@"
