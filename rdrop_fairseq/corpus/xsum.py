"""XSum as its authors give it: one ID.summary file per BBC article, and a JSON that says which id is in which split."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from rdrop_fairseq.corpus import archives
from rdrop_fairseq.corpus.article_pairs import PairWriter
from rdrop_fairseq.corpus.manifest import Known
from rdrop_fairseq.corpus.pipeline import Pipeline
from rdrop_fairseq.corpus.stories import Story, decode
from rdrop_fairseq.errors import UserError

# The authors' own address and a mirror; the authors' repository has the list of splits.
ADDRESSES = (
    "http://bollin.inf.ed.ac.uk/public/direct/XSUM-EMNLP18-Summary-Data-Original.tar.gz",
    "https://huggingface.co/datasets/EdinburghNLP/xsum/resolve/main/data/XSUM-EMNLP18-Summary-Data-Original.tar.gz",
)
REPOSITORY = "https://raw.githubusercontent.com/EdinburghNLP/XSum/master/XSum-Dataset"
FOLDER = "bbc-summary-data"
SPLIT_FILE = "XSum-TRAINING-DEV-TEST-SPLIT-90-5-5.json"
SPLIT_KEYS = {"train": "train", "val": "validation", "test": "test"}
KNOWN = {"train": Known(204_045), "val": Known(11_332), "test": Known(11_334)}
SECTION = re.compile(r"\[SN\](.+?)\[SN\]")
# Buttons of the web page that were scraped along.
BUTTONS = frozenset(
    (
        "Share this with",
        "Email",
        "Facebook",
        "Messenger",
        "Twitter",
        "Pinterest",
        "WhatsApp",
        "LinkedIn",
        "Linkedin",
        "Copy this link",
        "These are external links and will open in a new window",
    )
)


def fetch(pipeline: Pipeline) -> Path:
    """Steps: the authors' archive and list of splits; returns the folder that holds both, unpacked."""
    downloads = pipeline.directory / "download"
    archive = pipeline.download(ADDRESSES, downloads / ADDRESSES[0].rsplit("/", 1)[-1])
    split = pipeline.download([f"{REPOSITORY}/{SPLIT_FILE}"], downloads / SPLIT_FILE)
    folder = pipeline.directory / "original"

    def unpack(parts: list[Path]) -> None:
        archives.unpack(archive, parts[0])
        shutil.copy(split, parts[0])

    pipeline.step(f"unpack {archive.name}", [folder], unpack, [archive, split])
    return folder


def is_layout(directory: Path) -> bool:
    """Whether `directory` holds XSum's own files."""
    return (directory / FOLDER).is_dir() and (directory / SPLIT_FILE).is_file()


def parse(data: bytes) -> Story:
    """The body ([SN]RESTBODY[SN]) and the summary ([SN]FIRST-SENTENCE[SN]), each on one line, buttons left out."""
    text, utf8 = decode(data)
    fields = SECTION.split(text)  # text before the first mark, then name and content by turns
    sections = dict(zip(fields[1::2], fields[2::2]))
    article, summary = (_joined(sections.get(name, "")) for name in ("RESTBODY", "FIRST-SENTENCE"))
    return Story(article, summary, utf8)


def _joined(section: str) -> str:
    lines = (line.strip() for line in section.split("\n"))
    return " ".join(line for line in lines if line and line not in BUTTONS)


def read_split(directory: Path) -> dict[str, list[str]]:
    """The ids of each split, in the order of the file."""
    path = directory / SPLIT_FILE
    try:
        ids = json.loads(path.read_text(encoding="utf-8"))
        return {split: [str(number) for number in ids[key]] for split, key in SPLIT_KEYS.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not XSum's list of ids ({error!r}): fetch it again") from error


def copy(directory: Path, ids: Sequence[str], writer: PairWriter, title: str) -> list[str]:
    """Passes every article of `ids` that exists to the writer; returns the ids without an article."""
    missing = []
    for number in tqdm(ids, desc=title, unit="articles", mininterval=1.0):
        data = _read(directory / FOLDER / f"{number}.summary")
        if data is None:
            missing.append(number)
        else:
            story = parse(data)
            writer.add(story.article, story.summary, story.utf8)
    return missing


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
