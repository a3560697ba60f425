#!/usr/bin/env bash
# Builds a small corpus of one narrow domain in work/verses, Spanish to English Bible verses; --help lists the options.
# Downloads 73 MB, needs 300 MB of disk while it runs, and takes half a minute.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq
rdrop prepare verses --out "$ROOT/work/verses" "$@"
