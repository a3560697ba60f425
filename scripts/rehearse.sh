#!/usr/bin/env bash
# The whole way of a benchmark on 2,000 real pairs before hours are spent: rehearse.sh BENCHMARK [-- fairseq-train options]
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq,summarization
rdrop rehearse --root "$ROOT" --data "$ROOT/data" "$@"
