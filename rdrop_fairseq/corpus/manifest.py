"""manifest.json: a prepared corpus's origin, its steps, the tools used, and its counts beside the published ones."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdrop_fairseq import files
from rdrop_fairseq.errors import UserError

TOLERANCE = 0.01
# The import name `fairseq` comes from one of several distributions (setup.py says which where).
TOOLS = ("rdrop-fairseq", "sacremoses", "subword-nmt", "tiktoken", "fairseq", "ve-fairseq", "fairseq-fixed")


def versions(*tools: str) -> dict[str, str]:
    """Versions of the named distributions that are installed, of all tools and Python itself without names."""
    found = {} if tools else {"python": platform.python_version()}
    for tool in tools or TOOLS:
        try:
            found[tool] = importlib.metadata.version(tool)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True)
class Known:
    """A published count, rounded to multiples of `rounded_to` ("about 4.0M": 100,000)."""

    count: int
    rounded_to: int = 1


def compare(counts: Mapping[str, int], known: Mapping[str, Known]) -> dict[str, dict[str, Any]]:
    """For each known count: the count found, their difference in percent, and whether it is within 1 %."""
    table = {}
    for name, published in known.items():
        difference = counts[name] - published.count
        beyond = max(0, abs(difference) - published.rounded_to // 2)
        table[name] = {
            "known": published.count,
            "rounded_to": published.rounded_to,
            "found": counts[name],
            "difference_percent": round(100 * difference / published.count, 2),
            "within_1_percent": beyond <= TOLERANCE * published.count,
        }
    return table


def warn(name: str, comparison: Mapping[str, Mapping[str, Any]], unit: str = "sentence pairs") -> None:
    """Warns on stderr of counts that are more than 1 % off the published ones."""
    for split, row in comparison.items():
        if not row["within_1_percent"]:
            about = "about " if row["rounded_to"] > 1 else ""
            print(
                f"WARNING: {name}: {split} has {row['found']:,} {unit}, {about}{row['known']:,} are known: "
                f"{row['difference_percent']:+.2f} % is more than 1 % off, so results will not be comparable",
                file=sys.stderr,
            )


def load(path: Path) -> dict[str, Any]:
    """The manifest in `path`, an empty one if there is none; raises UserError for one that is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"{path} is not readable as JSON ({error}): delete it to do the steps again") from error


def save(path: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest, whole or not at all."""
    with files.atomic(path, "w") as file:
        file.write(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
