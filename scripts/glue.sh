#!/usr/bin/env bash
# Fine-tune RoBERTa-large on GLUE, plainly and with R-Drop, for the paper's table; resumes: glue.sh [TASK...] [options]
# Disk, by arithmetic: 11 GB for the training that runs, 3.6 GB for each task and system that is done: 70 GB for all.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
# exec: a signal to this script reaches the program that ends the trainings
exec "$PYTHON" -m rdrop_fairseq glue --root "$ROOT" "$@"
