#!/usr/bin/env bash
# Perplexity of a language model, or of a translation model on the references:
#   scripts/score_perplexity.sh DATA CHECKPOINT [options]     or     compare BASELINE.json RDROP.json
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq
rdrop perplexity "$@"
