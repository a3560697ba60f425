#!/usr/bin/env bash
# Prepare CNN/DailyMail for BART and fetch BART: story archives, url lists -> data/cnndm/bin: prepare_cnndm.sh [options]
# Disk and time, estimated from the archives' sizes and not measured: 20 GB; up to an hour on 8 cores after downloading.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq,summarization
rdrop prepare cnndm --out "$ROOT/data/cnndm" --models "$ROOT/data" "$@"
