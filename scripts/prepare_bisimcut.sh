#!/usr/bin/env bash
# Put both directions of a prepared corpus into one data directory for Bi-SimCut: prepare_bisimcut.sh [DIR]
# Disk and time: as much again as the binarized data, 100 MB for IWSLT14; seconds.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq
rdrop prepare bisimcut --data "$ROOT/data" "$@"
