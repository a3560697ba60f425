#!/usr/bin/env bash
# Prepare CNN/DailyMail for BART, and BART: story archives, url lists -> data/cnndm/bin: prepare_cnndm.sh [options]
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq,summarization
rdrop prepare cnndm --out "$ROOT/data/cnndm" --models "$ROOT/data" "$@"
