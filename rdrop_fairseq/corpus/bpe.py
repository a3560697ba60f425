"""Byte pair encoding as subword-nmt does it (Sennrich et al. 2016), learned and applied on several processes.

Learning counts words in parallel and hands the vocabulary to subword-nmt, whose operations do not depend on the order
of the text: the same codes as `subword-nmt learn-bpe -s N < text`. Applying asks subword-nmt once per word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from subword_nmt.apply_bpe import BPE
from subword_nmt.learn_bpe import learn_bpe
from tqdm import tqdm

from rdrop_fairseq import files
from rdrop_fairseq.corpus import lines
from rdrop_fairseq.corpus.processes import in_order
from rdrop_fairseq.errors import UserError

# Bytes of text per counting task: large beside its vocabulary (some 10 MB pickled), so that merging is rare.
TASK_BYTES = 1 << 26
BLOCK_BYTES = 1 << 22  # read at once; as str objects this is about 50 MB
# Words remembered per process (about 40 MB): 98 % of running words are among the 200,000 most frequent of WMT14 En-Fr,
# and a memory of all 5 million would be over a gigabyte per process.
CACHE_WORDS = 200_000
BLANKS = "\r\n "  # what subword-nmt takes off the ends of a line


def learn(inputs: Sequence[Path], codes: Path, operations: int, workers: int = 1) -> dict[str, int]:
    """Learns `operations` merges on all `inputs` together (joint BPE) and writes them to `codes`.

    Returns {"words": running words, "types": different words, "operations": merges learned}; there are fewer merges
    than `operations` if no pair of symbols is left that occurs twice. Raises UserError for text without any pair.
    """
    # In a separate process, so that its vocabulary and statistics of pairs (about 1 kB per type) are freed and the
    # workers of later steps do not inherit them.
    with ProcessPoolExecutor(1) as pool:
        try:
            return pool.submit(_learn, inputs, codes, operations, workers).result()
        except BrokenProcessPool as error:
            raise UserError("learning BPE was killed, perhaps for memory: it needs about 1 kB per type") from error


def _learn(inputs: Sequence[Path], codes: Path, operations: int, workers: int) -> dict[str, int]:
    vocabulary = count_words(inputs, workers)
    if all(len(word) < 2 for word in vocabulary):
        raise UserError(f"{', '.join(map(str, inputs))}: no word of two characters to learn BPE from")
    counted = (f"{word} {count}\n" for word, count in sorted(vocabulary.items()))
    with files.atomic(codes, "w") as file:
        learn_bpe(counted, file, operations, is_dict=True)
    with open(codes, encoding="utf-8", newline="\n") as file:
        learned = sum(1 for _ in file) - 1  # the first line is the version
    return {"words": sum(vocabulary.values()), "types": len(vocabulary), "operations": learned}


def count_words(inputs: Sequence[Path], workers: int = 1) -> Counter[str]:
    """How often each word (what single spaces separate) occurs in all `inputs` together."""
    total: Counter[str] = Counter()
    tasks = [(path, start) for path in inputs for start in range(0, path.stat().st_size, TASK_BYTES)]
    alone = workers <= 1 or len(tasks) <= 1
    with tqdm(total=len(tasks), desc="counting words", leave=False, delay=1) as bar:
        for part in map(_count, tasks) if alone else in_order(_count, tasks, workers, workers + 1):
            total.update(part)
            bar.update()
    return total


def _count(task: tuple[Path, int]) -> Counter[str]:
    """Words of the lines of a file that begin in the TASK_BYTES from a position on."""
    path, start = task
    counts: Counter[str] = Counter()
    end = start + TASK_BYTES
    with open(path, "rb") as file:
        if start:
            file.seek(start - 1)
            file.readline()  # the rest of a line that began earlier, or the newline before one that begins here
        while file.tell() < end:
            # One byte short of the end: after a newline there, readline would take the line that the next task counts.
            block = file.read(min(BLOCK_BYTES, end - file.tell()) - 1) + file.readline()
            if not block:
                break
            try:
                text = block.decode()
            except UnicodeDecodeError as error:
                where = f"{path} is not UTF-8 before byte {file.tell()}"
                raise UserError(f"{where}: convert it, for example with iconv") from error
            if "\r" in text:
                for line in text.split("\n"):
                    counts.update(line.strip(BLANKS).split(" "))
            else:
                counts.update(text.replace("\n", " ").split(" "))
    del counts[""]
    return counts


def apply(codes: Path, source: Path, output: Path, workers: int = 1, title: str = "") -> lines.Counts:
    """Writes `source` segmented with `codes` to `output`: what `subword-nmt apply-bpe -c codes` writes."""
    return lines.map_files(Segmenter(codes), [source], [output], workers, title)


class Segmenter:
    """line -> line with its words segmented (`un@@ der`); reads the codes in the process that uses it."""

    def __init__(self, codes: Path) -> None:
        self.codes = Path(codes)
        if not self.codes.is_file():
            raise UserError(f"{codes}: no such BPE codes; prepare the data first, or give the file's path")
        self._words: _Words | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"codes": self.codes, "_words": None}

    def __call__(self, line: str) -> str:
        if self._words is None:
            self._words = _Words(self.codes)
        words = self._words
        core = line.strip(BLANKS)
        segmented = " ".join([words[word] for word in core.split(" ") if word])
        if len(core) == len(line):
            return segmented
        before = line[: len(line) - len(line.lstrip(BLANKS))]
        after = line[len(line.rstrip(BLANKS)) :] if core else ""
        return before + segmented + after


class _Words(dict[str, str]):
    """word -> its segments as written, computed by subword-nmt on the first lookup."""

    def __init__(self, codes: Path) -> None:
        super().__init__()
        with open(codes, encoding="utf-8", newline="\n") as file:
            self._bpe = BPE(file)

    def __missing__(self, word: str) -> str:
        if len(self) >= CACHE_WORDS:
            self.clear()
        segments = " ".join(self._bpe.segment_tokens([word]))
        self._bpe.cache.clear()  # remembered here, joined
        self[word] = segments
        return segments
