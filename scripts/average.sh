#!/usr/bin/env bash
# Average checkpoints of one model: average.sh DIR --last N (or --best K; or checkpoint files) --output FILE
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq
rdrop average "$@"
