# shellcheck shell=bash
# Shared by every script here: strict mode, where the project is, its Python, and how progress is told.
set -euo pipefail

# without CDPATH: cd would print the directory that it finds by it
ROOT=$(CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${RDROP_VENV:-$ROOT/.venv}

say() { printf '[%s] %s\n' "$(date +%H:%M:%S)" "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Is -h or --help among the script's own options? What follows -- belongs to another program.
asks_for_help() {
    local word
    for word in "$@"; do
        case $word in
            -h | --help) return 0 ;;
            --) return 1 ;;
        esac
    done
    return 1
}

# print_head SCRIPT: the comment at its top.
print_head() { sed -n '2,${/^#SBATCH/d;/^#/!q;s/^# \{0,1\}//p}' "$1"; }

# need_python EXTRA[,EXTRA...]: sets PYTHON to an interpreter that has the project and these extras installed.
# $PYTHON set by the caller is taken as it is. Otherwise the venv of the checkout is made (once: the stamp names what
# was installed from which setup.py and constraints, so a changed list installs again).
need_python() {
    if [[ -n ${PYTHON:-} ]]; then return; fi
    local extras=$1 stamp key base
    PYTHON=$VENV/bin/python
    stamp=$VENV/.installed-$extras
    key=$(cat "$ROOT/setup.py" "$ROOT/constraints.txt" | sha256sum | cut -d' ' -f1)
    if [[ -x $PYTHON && -f $stamp && $(<"$stamp") == "$key" ]]; then return; fi
    say "installing rdrop_fairseq[$extras] into ${VENV#"$ROOT"/} (once)"
    if [[ ! -x $PYTHON ]]; then
        base=$(base_python)  # on its own: a failure inside of another command would not end the script
        "$base" -m venv "$VENV" || die "python -m venv failed: on Debian, apt-get install python3-venv"
    fi
    # the pinned versions need Python 3.11; an older one takes the newest that it can have
    local pins=(-c "$ROOT/constraints.txt")
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || pins=()
    "$PYTHON" -m pip install --quiet --disable-pip-version-check ${pins[@]+"${pins[@]}"} -e "$ROOT[$extras]" \
        || die "the installation failed: run it again, or set PYTHON to an interpreter that has rdrop_fairseq"
    printf '%s' "$key" >"$stamp"
}

# The interpreter that venvs are made from: $RDROP_BASE_PYTHON, or the first of these that is 3.9 to 3.12.
base_python() {
    local candidate
    for candidate in ${RDROP_BASE_PYTHON:-} python3 python3.11 python3.12 python3.10 python3.9; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "no Python 3.9 to 3.12 found: install one, or name it in RDROP_BASE_PYTHON"
}

# extras_of_config WORDS: the extras that `train.sh WORDS` needs, by the task of its config.
extras_of_config() {
    # the venv, once it is there, needs no other Python: a job's PATH may lack the one that it was made from
    local python=${PYTHON:-$VENV/bin/python}
    [[ -n ${PYTHON:-} || -x $python ]] || python=$(base_python) || return
    PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}" "$python" -m rdrop_fairseq.training.extras "$@"
}

# rdrop COMMAND ...: the project's command line.
rdrop() { PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}" "$PYTHON" -m rdrop_fairseq "$@"; }

# --help: first what stands at the top of the script, then the options of the command that it calls. Nothing is installed
# for it: the parsers need the standard library alone. A script that calls no command, or does something before, looks at
# HELP.
HELP=
if asks_for_help "$@"; then
    HELP=yes
    print_head "$0"
    PYTHON=${PYTHON:-$(base_python)}
fi
