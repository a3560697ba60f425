"""GPT-2's byte-level BPE, text to ids and back, from a local encoder.json and vocab.bpe: BART's vocabulary.

The ids are those of fairseq's own encoder (`fairseq.data.encoders.gpt2_bpe`), which the tests compare with; tiktoken
does the work several times faster. tiktoken knows a merge by the bytes that it makes, GPT-2 by the pair that is merged:
the same thing for every list of merges that was learned from text, where the bytes of each symbol come back as that one
symbol. fairseq calls the decimal ids, separated by blanks, the BPE text.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdrop_fairseq.errors import UserError, install

if TYPE_CHECKING:
    import tiktoken

HOST = "https://dl.fbaipublicfiles.com/fairseq/gpt2_bpe"
# The two files of the BPE and BART's dictionary (GPT-2's ids by falling frequency), under HOST.
ENCODER, MERGES, DICTIONARY = "encoder.json", "vocab.bpe", "dict.txt"
# How GPT-2 cuts text into words before it merges within them: English contractions, letters, numbers, the rest, blanks.
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


class Gpt2Bpe:
    """Encoder and decoder; picklable, a worker process reads the two files itself."""

    def __init__(self, encoder_json: Path, vocab_bpe: Path) -> None:
        """Raises UserError for files that do not belong together."""
        self.files = (Path(encoder_json), Path(vocab_bpe))
        self._encoding, self._ids = _read(*self.files)
        self._ranks = {number: rank for rank, number in enumerate(self._ids)}

    def __reduce__(self) -> tuple[Any, ...]:
        return Gpt2Bpe, self.files

    def encode(self, text: str) -> list[int]:
        """Ids of the text; the empty text has none."""
        return [self._ids[rank] for rank in self._encoding.encode_ordinary(text)]

    def encode_line(self, line: str) -> str:
        """The BPE text of a line as fairseq writes it: stripped, then decimal ids separated by blanks."""
        return " ".join(map(str, self.encode(line.strip())))

    def decode(self, ids: list[int]) -> str:
        """The text of ids; bytes that are cut in the middle of a character become U+FFFD, unknown ids are left out."""
        return self._encoding.decode([self._ranks[number] for number in ids if number in self._ranks])

    def decode_line(self, line: str) -> str:
        """The text of BPE text on one line; symbols that are not numbers (<unk>, <mask>) are left out."""
        return self.decode([int(token) for token in line.split() if token.isdecimal()])


@lru_cache(maxsize=4)
def _read(encoder_json: Path, vocab_bpe: Path) -> tuple[tiktoken.Encoding, list[int]]:
    """tiktoken's encoding over ranks (single bytes, then merges in order), and the id of each rank."""
    try:
        import tiktoken  # an extra: fairseq imports every module beside a task, also for those who only translate
    except ModuleNotFoundError as error:
        raise UserError(f"GPT-2's BPE needs tiktoken: {install('summarization')}") from error
    try:
        ids: dict[str, int] = json.loads(encoder_json.read_text(encoding="utf-8"))
        lines = vocab_bpe.read_text(encoding="utf-8").split("\n")
        merges = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {encoder_json} and {vocab_bpe} ({error}): fetch both again") from error
    to_byte = {letter: bytes([byte]) for byte, letter in _letters().items()}
    try:
        ranks = {to_byte[letter]: rank for rank, letter in enumerate(to_byte)}
        names = list(to_byte)
        for first, second in merges:
            ranks[b"".join(to_byte[letter] for letter in first + second)] = len(names)
            names.append(first + second)
        numbers = [ids[name] for name in names]
    except (KeyError, ValueError, AttributeError, TypeError) as error:
        raise UserError(
            f"{vocab_bpe} is not a list of GPT-2 merges, or {encoder_json} lacks some of its symbols ({error}): "
            "fetch both from one place"
        ) from error
    if len(ranks) != len(names):
        raise UserError(f"{vocab_bpe} makes a symbol twice: fetch it again")
    return tiktoken.Encoding(vocab_bpe.name, pat_str=WORDS, mergeable_ranks=ranks, special_tokens={}), numbers


def _letters() -> dict[int, str]:
    """The letter that stands for each byte in encoder.json and vocab.bpe, in GPT-2's order.

    Bytes that are printable in Latin-1 stand for themselves, in order; the others follow, as letters from U+0100 on.
    """
    printable = [byte for byte in range(256) if 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or 0xAE <= byte <= 0xFF]
    letters = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in letters:
            letters[byte] = chr(0x100 + len(letters) - len(printable))
    return letters
