#!/usr/bin/env bash
# Lint, types and the whole test suite: what CI runs. Arguments go to pytest (e.g. scripts/test.sh tests/loss -k bf16).
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
if [[ -n $HELP ]]; then exit; fi
need_python fairseq,test
cd "$ROOT"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
say "ruff"
"$PYTHON" -m ruff check .
say "mypy"
"$PYTHON" -m mypy
say "pytest"
"$PYTHON" -m pytest -n "${PYTEST_WORKERS:-2}" --dist loadscope "$@"
