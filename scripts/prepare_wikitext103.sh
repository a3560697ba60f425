#!/usr/bin/env bash
# Prepare WikiText-103 for language modelling: archive -> data/wikitext103/bin: prepare_wikitext103.sh [options]
# Disk and time, estimated from the archive's size and not measured: 2 GB (190 MB to fetch); minutes.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq
rdrop prepare wikitext103 --data "$ROOT/data" "$@"
