"""The one exception that means: the input is wrong, and the message says how to mend it."""

from __future__ import annotations


class UserError(ValueError):
    """Bad input, told in one sentence that names the input and the way out; commands print it without a traceback."""
