#!/usr/bin/env bash
# Make the WMT14 English-German data: prepare_wmt14_en_de.sh [--valid newstest2013] [--news-commentary v9|v12] [options]
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq
rdrop prepare wmt14 de --data "$ROOT/data" "$@"
