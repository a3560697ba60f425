"""The one exception that means: the input is wrong, and the message says how to mend it; what is missing, and how to
install it."""

from __future__ import annotations

import argparse

WORKER_KILLED = "a worker process was killed, perhaps for memory: use fewer --workers"


class UserError(ValueError):
    """Bad input. The message is one sentence that names the input and the way out; commands print no traceback."""


def install(extra: str) -> str:
    """The command that installs what `extra` of setup.py needs, from a checkout: the package is on no index."""
    return f'pip install -c constraints.txt -e ".[{extra}]"'


def positive(text: str) -> int:
    """The type of an option that counts something (for argparse)."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is no whole number above 0")
    return int(text)
