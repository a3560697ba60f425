#!/usr/bin/env bash
# Does R-Drop help on small real data? Digits with a small ViT, plain training tuned as R-Drop is. Resumable; see --help.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python vision,plots
cd "$ROOT"
rdrop experiment digits "$@"
