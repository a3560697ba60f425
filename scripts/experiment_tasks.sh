#!/usr/bin/env bash
# Does R-Drop help on small real data? Three of the paper's tasks in small: digits with a ViT, verses by book with a
# RoBERTa, a language model of verses; plain training is tuned as R-Drop is. scripts/experiment/TASKS.md says what came of it.
# About two CPU hours, one process at a time; resumable.
#   scripts/experiment_tasks.sh                 all three
#   scripts/experiment_tasks.sh digits          one of digits, sentences, language_model
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq,vision,plots
cd "$ROOT"
export OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=  # all of it on the CPU
rdrop experiment "$@"
