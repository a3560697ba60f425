#!/usr/bin/env bash
# RoBERTa-large on GLUE with and without R-Drop, over seeds, to the paper's table; resumable: glue.sh [TASK...] [options]
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
# exec: a signal to this script reaches the program that ends the trainings
exec "$PYTHON" -m rdrop_fairseq glue --root "$ROOT" "$@"
