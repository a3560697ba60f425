"""`python -m rdrop_fairseq.training.extras WORDS OF TRAIN`: which extras of setup.py a training needs, comma-separated.

It runs before anything is installed, so it reads the config with the standard library alone, without YAML.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from rdrop_fairseq.training.config import find_config

TASK = re.compile(r"^task:\s*([\w-]+)", re.MULTILINE)


def extras(words: Sequence[str], root: Path) -> list[str]:
    """The extras for `train`'s command line; `train` itself complains about an unknown config."""
    for word in words[: words.index("--")] if "--" in words else words:
        try:
            task = TASK.search(find_config(word, root).read_text(encoding="utf-8"))
        except (ValueError, ImportError, OSError):  # no config; to list what there is takes YAML
            continue
        return ["fairseq", "summarization"] if task and task[1] == "summarization_rdrop" else ["fairseq"]
    return ["fairseq"]


if __name__ == "__main__":
    print(",".join(extras(sys.argv[1:], Path(__file__).parents[2])))
