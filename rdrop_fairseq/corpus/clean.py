"""The rule of Moses' clean-corpus-n.perl: drop sentence pairs that are too short, too long or too unlike in length."""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from rdrop_fairseq.corpus import lines
from rdrop_fairseq.corpus.moses import lowercase
from rdrop_fairseq.corpus.moses.characters import SPACE, SPACES
from rdrop_fairseq.errors import UserError

# Longer words break aligners; the script drops their pairs, and so do the known counts.
LONGEST_WORD = 1000
_LONG_WORD = re.compile(f"[^{SPACE}|]{{{LONGEST_WORD + 1}}}")
_BLANK_FACTOR = re.compile(r"[ |]\|")


@dataclass(frozen=True)
class Cleaner:
    """`clean-corpus-n.perl -ratio R ... MIN MAX` for one pair of lines: the cleaned pair, or None to drop it.

    Kept are pairs with minimum <= words <= maximum on both sides, no word above 1000 characters, and neither side more
    than `ratio` times as long as the other (exactly `ratio` times is kept). White space becomes single spaces; `lower`
    lowercases (-lc). | separates factors if `factored` (the script decides it by the first line) and is deleted if not.
    Raises UserError for a blank factor, where the script dies.
    """

    minimum: int = 1
    maximum: int = 175
    ratio: float = 9.0
    lower: bool = False
    factored: bool = False

    def __call__(self, left: str, right: str) -> tuple[str, str] | None:
        left, right = self._squeeze(left), self._squeeze(right)
        if not left or not right:
            return None
        words = left.count(" ") + 1, right.count(" ") + 1
        if max(words) > self.maximum or min(words) < self.minimum:
            return None
        if words[0] / words[1] > self.ratio or words[1] / words[0] > self.ratio:
            return None
        for line in (left, right):
            if len(line) > LONGEST_WORD and _LONG_WORD.search(line):
                return None
            if self.factored and _BLANK_FACTOR.search(line):
                raise UserError(f"a factor is blank in the line {line[:60]!r}: mend the line or escape its |")
        return left, right

    def _squeeze(self, line: str) -> str:
        if self.lower:
            line = lowercase(line)
        if not self.factored and "|" in line:
            line = line.replace("|", "")
        if not line.isprintable():
            line = SPACES.sub(" ", line)
        elif "  " in line:
            line = " ".join(line.split())
        return line.strip(" ")


def main(argv: list[str], prog: str) -> None:
    """The command: two parallel files in, two out."""
    parser = argparse.ArgumentParser(prog=prog, description="Drop sentence pairs as Moses' clean-corpus-n.perl does.")
    parser.add_argument("source", type=Path, help="text, one sentence per line")
    parser.add_argument("target", type=Path, help="its translation, line by line")
    parser.add_argument("cleaned_source", type=Path, help="where the kept lines of the source go")
    parser.add_argument("cleaned_target", type=Path, help="where the kept lines of the target go")
    parser.add_argument("--min", type=int, default=1, help="fewest words on either side (1)")
    parser.add_argument("--max", type=int, default=175, help="most words on either side (175)")
    parser.add_argument("--ratio", type=float, default=9.0, help="how many times as long one side may be (9)")
    parser.add_argument("--lower", action="store_true", help="lowercase both sides")
    parser.add_argument("--workers", type=int, default=1, help="processes (1)")
    options = parser.parse_args(argv)
    inputs = [options.source, options.target]
    rule = Cleaner(options.min, options.max, options.ratio, options.lower, any(map(_starts_factored, inputs)))
    outputs = [options.cleaned_source, options.cleaned_target]
    counts = lines.map_files(rule, inputs, outputs, options.workers, title="clean")
    print(f"Input sentences: {counts.read}  Output sentences: {counts.written}", file=sys.stderr)


def _starts_factored(path: Path) -> bool:
    """Whether the first line has a |."""
    with lines.open_input(path) as file:
        return b"|" in file.readline()
