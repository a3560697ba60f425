#!/usr/bin/env bash
# Prepare WMT14 English-German: prepare_wmt14_en_de.sh [--preset scaling-nmt|icml17] [--from-bpe DIR] [options]
# Disk and time, estimated from the archives' sizes and not measured: 20 GB; up to an hour on 8 cores after downloading.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq
rdrop prepare wmt14 de --data "$ROOT/data" "$@"
