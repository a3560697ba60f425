#!/usr/bin/env bash
# Fine-tune RoBERTa-large on GLUE, plainly and with R-Drop, for the paper's table; resumes: glue.sh [TASK...] [options]
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
# exec: a signal to this script reaches the program that ends the trainings
exec "$PYTHON" -m rdrop_fairseq glue --root "$ROOT" "$@"
