"""Shared by the tests of several folders: a tiny vocabulary in GPT-2's and BART's file formats, tiny news stories."""

from __future__ import annotations

import json
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest
import regex

# Tiny tensors gain nothing from threads, and on a busy machine waiting for one another costs them tenfold. Set before
# torch is imported; processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["packages", "tiny_training"]


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """A benchmark sets torch's threads; with another number, later tests of equal bits compare different sums."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


NAMES = ("Ann", "Bob", "Cleo", "Dan", "Eve", "Finn")
PLACES = ("Rome", "Oslo", "Lima", "Kyoto", "Accra")
DEEDS = ("opened a school", "won the race", "lost the vote", "can't find a dog", "wrote a book (her first)")


def story_text(number: int) -> tuple[str, str]:
    """An article and its two highlights (joined by a newline), the same for the same number."""
    choose = random.Random(number)
    name, place, deed = choose.choice(NAMES), choose.choice(PLACES), choose.choice(DEEDS)
    lines = [f"({place}) -- {name} {deed} on day {number}.", f"People in {place} saw it", "It was a good day there."]
    return "\n\n".join(lines), f"{name} {deed}\n{place} saw it"


def story_file(number: int) -> bytes:
    """The same as a file of CNN/DailyMail."""
    article, summary = story_text(number)
    highlights = "".join(f"\n\n@highlight\n\n{line}" for line in summary.split("\n"))
    return (article + highlights).encode()


def learn_merges(text: str, count: int, letters: dict[int, str]) -> list[tuple[str, str]]:
    """BPE by its definition: the pair seen most often becomes a symbol; of equals, the first in alphabetical order."""
    found = regex.findall(r" ?\p{L}+| ?\p{N}+|[^\p{L}\p{N}]+", text)
    words = Counter(tuple(letters[byte] for byte in word.encode()) for word in found)
    merges = []
    for _ in range(count):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, times in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += times
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        merged: Counter[tuple[str, ...]] = Counter()
        for word, times in words.items():
            new: list[str] = []
            for symbol in word:
                if new and (new[-1], symbol) == best:
                    new[-1] += symbol
                else:
                    new.append(symbol)
            merged[tuple(new)] += times
        words = merged
    return merges


@pytest.fixture(scope="session")
def story() -> Callable[[int], bytes]:
    return story_file


@pytest.fixture(scope="session")
def gpt2_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with encoder.json, vocab.bpe and dict.txt as GPT-2 and BART have them, but 120 merges; V is 384."""
    from fairseq.data.encoders.gpt2_bpe_utils import bytes_to_unicode

    folder = tmp_path_factory.mktemp("gpt2 bpe")
    letters = bytes_to_unicode()
    merges = learn_merges("\n".join("\n".join(story_text(n)) for n in range(60)), 120, letters)
    symbols = list(letters.values()) + [first + second for first, second in merges] + ["<|endoftext|>"]
    numbers = list(range(len(symbols)))
    random.Random(1).shuffle(numbers)  # in GPT-2 the ids are in the order of the merges, which nothing may rely on
    (folder / "encoder.json").write_text(json.dumps(dict(zip(symbols, numbers))), encoding="utf-8")
    rules = "".join(f"{first} {second}\n" for first, second in merges)
    (folder / "vocab.bpe").write_text("#version: 0.2\n" + rules, encoding="utf-8")
    ids = random.Random(2).sample(numbers, len(numbers))
    entries = [f"{number} {len(ids) - place}" for place, number in enumerate(ids)]
    padding = [f"madeupword{n:04} 0" for n in range(-(len(ids) + 4) % 8)]
    (folder / "dict.txt").write_text("\n".join(entries + padding) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Binarized xx-yy data in which the target is a copy of the source; see tests/support/tiny_fairseq.py."""
    from tiny_fairseq import write_corpus

    return write_corpus(tmp_path_factory.mktemp("tiny corpus"))
