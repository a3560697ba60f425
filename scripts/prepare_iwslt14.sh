#!/usr/bin/env bash
# Prepare a pair of IWSLT14 or IWSLT17, for both directions, from its archive: prepare_iwslt14.sh [SRC TGT] [options]
# Disk and time, estimated from the archives' sizes and not measured: 1 GB; minutes on 4 cores after downloading.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

extras=fairseq
for word; do [[ $word != zh ]] || extras=fairseq,chinese; done
need_python "$extras"
rdrop prepare iwslt --data "$ROOT/data" "$@"
