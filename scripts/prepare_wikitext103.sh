#!/usr/bin/env bash
# Prepare WikiText-103 (190 MB to fetch, about 1 GB on disk -> data/wikitext103/bin): prepare_wikitext103.sh [options]
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq
rdrop prepare wikitext103 --data "$ROOT/data" "$@"
