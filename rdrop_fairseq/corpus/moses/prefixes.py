"""Non-breaking prefixes: words after which a period does not end a sentence, from the lists that sacremoses carries."""

from __future__ import annotations

import importlib.util
import re
import runpy
from functools import cache
from pathlib import Path
from typing import Any

from rdrop_fairseq.errors import UserError

_NUMERIC_ONLY = re.compile(r"(.*)\s+#NUMERIC_ONLY#")
_FILE = "nonbreaking_prefix."


@cache
def lists() -> dict[str, str]:
    """File name -> contents, as sacremoses has them: a folder of files up to 0.1, a table in a module since.

    Read without importing the package, which takes half a second and strips the white space that matters in `load`.
    """
    spec = importlib.util.find_spec("sacremoses")
    if spec is None or spec.origin is None:
        raise UserError("sacremoses, whose lists of non-breaking prefixes are used, is not installed: pip install it")
    package = Path(spec.origin).parent
    folder, module = package / "data" / "nonbreaking_prefixes", package / "_data_nonbreaking_prefixes.py"
    if folder.is_dir():
        return {path.name: path.read_text(encoding="utf-8") for path in folder.glob(_FILE + "*")}
    if module.is_file():
        table: dict[str, Any] = runpy.run_path(str(module))
        return dict(table["NONBREAKING_PREFIXES"])
    raise UserError("this sacremoses has no lists of non-breaking prefixes: pip install sacremoses==0.2.0")


def languages() -> tuple[str, ...]:
    """The languages that have a list."""
    return tuple(sorted(name[len(_FILE) :] for name in lists() if name.startswith(_FILE)))


def load(lang: str) -> tuple[frozenset[str], frozenset[str]]:
    """The prefixes of a language: (those that always hold, those that hold before a number).

    A language without a list gets the English one, as in tokenizer.perl. The lines are taken as they are: an entry with
    a space after it never matches there either, and an entry given twice counts as it was given last.
    """
    always: set[str] = set()
    numeric: set[str] = set()
    for line in lists()[_FILE + (lang if lang in languages() else "en")].split("\n"):
        if not line or line == "0" or line.startswith("#"):
            continue
        match = _NUMERIC_ONLY.match(line)
        word = match.group(1) if match else line
        (numeric if match else always).add(word)
        (always if match else numeric).discard(word)
    return frozenset(always), frozenset(numeric)
