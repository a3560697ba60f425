#!/usr/bin/env bash
# Is everything there for a real run? Addresses, disk, GPUs, installation, data, config: doctor.sh [BENCHMARK...] [options]
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_python fairseq
rdrop doctor --data "$ROOT/data" --root "$ROOT" "$@"
