#!/usr/bin/env bash
# Checks and measures everything on a GPU in a few minutes, and writes the tables: gpu_check.sh [--minutes 8] [--out DIR]
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# A Python that has all of it, such as that of an image for GPUs, is used as it is; nothing is installed then.
for found in "$VENV/bin/python" "$(base_python 2>/dev/null)"; do
    if [[ -z ${PYTHON:-} ]] && "$found" -c 'import fairseq, pytest, regex, sacrebleu, torch, tqdm' 2>/dev/null; then
        PYTHON=$found
    fi
done
need_python fairseq,test
rdrop benchmark gpu "$@"
