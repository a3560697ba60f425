#!/usr/bin/env bash
# From a fresh checkout to a trained R-Drop model, its BLEU and five translations; it resumes, and --hours N trains on.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
# exec: a signal to this script reaches the program that ends the training
exec "$PYTHON" -m rdrop_fairseq quickstart --root "$ROOT" "$@"
