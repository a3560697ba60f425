#!/usr/bin/env bash
# Make the IWSLT data from the raw archive, for one pair in both directions: prepare_iwslt14.sh [SRC TGT] [options]
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq
rdrop prepare iwslt --data "$ROOT/data" "$@"
