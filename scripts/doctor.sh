#!/usr/bin/env bash
# Is everything there for a real run? Addresses, disk, GPUs, installation, data, config: doctor.sh [BENCHMARK...] [options]
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

case " $* " in
    *cifar100* | *imagenet* | *" all "*) need_python fairseq,vision ;;
    *) need_python fairseq ;;
esac
rdrop doctor --data "$ROOT/data" --root "$ROOT" "$@"
