#!/usr/bin/env bash
# Prepare WMT14 English-French (36 million pairs: hours, tens of gigabytes): prepare_wmt14_en_fr.sh [options]
# Disk and time, estimated from the archives' sizes and not measured: 80 GB; hours on 8 cores after downloading.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq
rdrop prepare wmt14 fr --data "$ROOT/data" "$@"
