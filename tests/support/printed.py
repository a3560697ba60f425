"""Every command that the documents print: README.md and its kin, the heads of configs, the heads of scripts."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What a command begins with. A script without its folder is one of scripts/.
STARTS = r"(?:scripts/\w+\.(?:sh|slurm)|\w+\.sh|sbatch|fairseq-[a-z-]+|pip install|python -m rdrop_fairseq)(?= |$)"
LINE = re.compile(rf"(?: {{4}}|# {{3}})({STARTS}.*)")
SPAN = re.compile(rf"`({STARTS} [^`]+)`|\(({STARTS} CONFIG [^)]+)\)|e\.g\. ({STARTS} [^)]+)\)")
FENCE = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _commands(text: str) -> list[str]:
    """Indented or fenced lines: comments cut off, continued lines joined, those joined by && apart."""
    found = []
    text = FENCE.sub(lambda fenced: re.sub("^", "    ", fenced[1], flags=re.MULTILINE), text)
    for line in re.sub(r" *\\\n[# ]*", " ", text).splitlines():
        match = LINE.fullmatch(line)
        if match:
            found += re.sub(r"\s{2,}#? ?\w.*$|\s+#.*$", "", match[1]).split("&&")
    return [command.strip() for command in found]


def _spans(text: str) -> list[str]:
    """Commands with arguments inside of sentences; a script's name alone is no more than a mention."""
    joined = re.sub(r"\n(?:# *)?", " ", text)
    return [next(filter(None, match.groups())) for match in SPAN.finditer(joined)]


@cache
def by_document() -> dict[str, list[str]]:
    """Path of the document -> its commands in order, each with `scripts/` before the name of a script."""
    found: dict[str, list[str]] = {}
    folders = (ROOT, ROOT / "scripts", ROOT / "rdrop_fairseq", ROOT / "configs")  # tests/ and what is made have none
    paths = {path for folder in folders for path in folder.glob("*.md" if folder == ROOT else "**/*.md")}
    for path in sorted(paths - {ROOT / "CHANGELOG.md"}):
        text = path.read_text(encoding="utf-8")
        found[str(path.relative_to(ROOT))] = [*_commands(text), *_spans(text)]
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        found[str(path.relative_to(ROOT))] = [*_commands(text.split("\n\n")[0]), *_spans(text)]
    for path in sorted((ROOT / "scripts").iterdir()):
        if path.suffix in (".sh", ".slurm"):
            head = re.match(r"(?:#.*\n)*", path.read_text(encoding="utf-8"))
            assert head is not None
            found[str(path.relative_to(ROOT))] = [*_commands(head[0]), *_spans(head[0])]
    forms = ("[options]", "[DATA]")  # of a command's words, rather than a command
    return {
        path: [re.sub(r"^(\w+\.sh)", r"scripts/\1", each) for each in lines if not any(form in each for form in forms)]
        for path, lines in found.items()
    }


def commands() -> list[str]:
    """All of them, once each."""
    return list(dict.fromkeys(command for several in by_document().values() for command in several))


def printed(command: str) -> str:
    """The command, if a document prints it: what a test runs it as. AssertionError if none does (any more)."""
    assert command in commands(), f"no document prints {command!r}: run what is printed"
    return command
