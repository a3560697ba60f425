"""Miniature archives of CNN/DailyMail and XSum, and of BART, with the names and the layout of the real ones."""

from __future__ import annotations

import json
from itertools import accumulate
from pathlib import Path
from typing import Callable

import small_corpora
import tiny_bart

from rdrop_fairseq.corpus import xsum
from rdrop_fairseq.corpus.stories import file_name

SIZES = [
    word
    for side in ("encoder", "decoder")
    for name, value in tiny_bart.SIZES.items()
    for word in (f"--{side}-{name}", value)
]


def news(
    folder: Path,
    gpt2_files: Path,
    story: Callable[[int], bytes],
    sizes: tuple[int, int, int] = (120, 60, 60),
    lacking: tuple[int, ...] = (),
    dummies: int = 0,
) -> None:
    """CNN/DailyMail and BART in `folder`: stories of train, valid and test in two archives, which lack some of them."""
    bart(folder, gpt2_files, dummies)
    ends = list(accumulate(sizes))
    for split, count, end in zip(("train", "val", "test"), sizes, ends):
        urls = (f"http://example.org/{number}\n" for number in range(end - count, end))
        (folder / f"all_{split}.txt").write_text("".join(urls))
    for rest, name in enumerate(("cnn", "dailymail")):
        numbers = sorted({*range(rest, ends[-1], 2)} - {*lacking})
        inside = {f"{name}/stories/{file_name(f'http://example.org/{n}')}": story(n) for n in numbers}
        small_corpora.pack(folder / f"{name}_stories.tgz", inside)


def articles(folder: Path, gpt2_files: Path, story: Callable[[int], bytes]) -> None:
    """XSum and BART in `folder`: 60 articles of train, 10 each of valid and test."""
    bart(folder, gpt2_files)
    text = "[SN]FIRST-SENTENCE[SN]\n{}\n[SN]RESTBODY[SN]\n{}\n"
    inside = {}
    for number in range(80):
        body, _, summary = story(number).decode().partition("\n\n@highlight\n\n")
        summary = summary.replace("\n\n@highlight\n\n", " and ")
        inside[f"{xsum.FOLDER}/{number}.summary"] = text.format(f"{summary}.", body).encode()
    small_corpora.pack(folder / xsum.ADDRESSES[0].rsplit("/", 1)[-1], inside)
    ids = [str(number) for number in range(80)]
    splits = {"train": ids[:60], "validation": ids[60:70], "test": ids[70:]}
    (folder / xsum.SPLIT_FILE).write_text(json.dumps(splits))


def bart(folder: Path, gpt2_files: Path, dummies: int = 0) -> None:
    """The vocabulary, bart.base, bart.large and bart.large.cnn, of one layer (SIZES), with so many dummy entries."""
    tiny_bart.copy_vocabulary(gpt2_files, folder)
    positions = ("--max-source-positions", "1024", "--max-target-positions", "1024")
    built = tiny_bart.task_and_model(folder, *positions)[1]
    model = tiny_bart.publish(built, folder / "model.pt", dummies=dummies)
    entries = (folder / "dict.txt").read_bytes() + b"".join(b"madeupword%04d 0\n" % n for n in range(3, 3 + dummies))
    for name in ("bart.base", "bart.large", "bart.large.cnn"):
        inside = {f"{name}/model.pt": model.read_bytes(), f"{name}/dict.txt": entries}
        small_corpora.pack(folder / f"{name}.tar.gz", inside)
