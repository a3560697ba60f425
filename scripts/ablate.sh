#!/usr/bin/env bash
# A grid of R-Drop's options over seeds on any binarized data: one table, one plot per axis, learning curves; resumable.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq,plots
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
# exec: a signal to this script reaches the program that ends the trainings
exec "$PYTHON" -m rdrop_fairseq ablate "$@"
