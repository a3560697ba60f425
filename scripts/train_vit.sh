#!/usr/bin/env bash
# Fine-tune a Vision Transformer on the devices there are: train_vit.sh CONFIG [options], CONFIG as in configs/vit.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python vision,plots
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
# exec: a signal to this script reaches the training itself
exec "$PYTHON" -m rdrop_fairseq vision --root "$ROOT" "$@"
