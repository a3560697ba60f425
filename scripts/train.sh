#!/usr/bin/env bash
# Train an experiment of configs/ on the devices there are: train.sh CONFIG [DATA] [options] [-- fairseq-train options]
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

extras=$(extras_of_config "$@")
need_python "$extras"
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
# exec: a signal to this script (Slurm's, Ctrl-C, kill) reaches the training itself
exec "$PYTHON" -m rdrop_fairseq train --root "$ROOT" "$@"
