#!/usr/bin/env bash
# Builds the demo corpus in work/demo from message catalogs of released Python packages; --help lists the options.
# Downloads 231 MB, needs 1 GB of disk while it runs, and takes about a minute.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq
rdrop prepare demo --out "$ROOT/work/demo" "$@"
