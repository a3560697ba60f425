"""The first pairs of a benchmark's real archives, as archives of the same layout: what a rehearsal prepares.

Archives are fetched to where the preparation proper looks for them, read once up to the last member that is needed, and
cut by lines (or by segments of a test set); nothing is held but the lines that stay.
"""

from __future__ import annotations

import functools
import gzip
import io
import json
import tarfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO

from rdrop_fairseq.checks.benchmarks import IWSLT_PAIRS
from rdrop_fairseq.corpus import archives, cnndm, download, gpt2_bpe, iwslt, iwslt_talks, stories, wmt14, xsum

SEGMENTS = 60  # of each test set
HELD_OUT = 50  # articles of valid, and of test


def cut(archive: Path, output: Path, wanted: Mapping[str, int]) -> None:
    """Writes `output` (in mirror: same name, same format) with the first lines of the members of `archive` in `wanted`.

    wanted: lines by the member's name; of a test set (.sgm, .xml) segments instead. Members .gz are cut inside.
    """
    missing = set(wanted)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(output, "w" if output.suffix == ".tar" else "w:gz") as made, archives.explain_damage(archive):
        for entry in archives.entries(archive, archive.name):
            name = entry.name.removeprefix("./")
            if name not in missing or entry.content is None:
                continue
            add(made, name, _head(name, entry.content, wanted[name]))
            missing.discard(name)
            if not missing:
                break


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """One member from bytes."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def _head(name: str, content: IO[bytes], count: int) -> bytes:
    if name.endswith(".gz"):
        with gzip.open(content) as lines:
            return gzip.compress(_lines(lines, count, b""), mtime=0)  # type: ignore[arg-type]
    return _lines(content, count, b"<seg" if name.endswith((".sgm", ".xml")) else b"")


def _lines(content: IO[bytes], count: int, counted: bytes) -> bytes:
    """Lines until `count` of them hold `counted`."""
    taken, found = [], 0
    for line in content:
        taken.append(line)
        found += counted in line
        if found == count:
            break
    return b"".join(taken)


def of_iwslt(release: iwslt.Release, pairs: int, data: Path, mirror: Path) -> None:
    """The archive of an IWSLT pair with its first `pairs` lines of training text (talk descriptions among them)."""
    archive = data / release.archive
    download.fetch(release.addresses, archive)
    stem, wanted = f"{release.pair}/train.tags.{release.pair}", {}
    for language in release.languages:
        wanted[f"{stem}.{language}"] = pairs
        for test in release.tests:
            wanted[f"{release.pair}/IWSLT{release.year % 100}.{test}.{release.pair}.{language}.xml"] = SEGMENTS // 3
    cut(archive, mirror / archive.name, wanted)


def of_talks(talks: iwslt_talks.Talks, pairs: int, data: Path, mirror: Path) -> None:
    """The three archives of an IWSLT pair beside German: train with valid, and each side of test."""
    for archive in talks.archives:
        download.fetch(archive.addresses, data / archive.kept)
    wanted = {talks.train_member(language): pairs for language in talks.languages}
    wanted |= {name: SEGMENTS // 3 for language in talks.languages for name in talks.valid_members(language)}
    cut(data / talks.train.kept, mirror / talks.train.path, wanted)
    for place, archive in enumerate(talks.tests):
        cut(data / archive.kept, mirror / archive.path, {talks.test_member(place): SEGMENTS})


def of_wmt14(target: str, pairs: int, data: Path, mirror: Path) -> None:
    """The archives of the default preset, an equal share of `pairs` from each corpus."""
    _, recipe = wmt14.recipe_of(target, None, None, None)
    languages = ("en", target)
    corpora = [replace(source, stem=source.stem.format(target)) for source in recipe.corpora]
    share = -(-pairs // len(corpora))
    wanted: dict[wmt14.Source, dict[str, int]] = {
        source: dict.fromkeys(source.members(languages), share) for source in corpora
    }
    sides = zip(("src", "ref"), languages)
    names = [f"{wmt14.TEST.stem}-{recipe.test}-{side}.{language}.sgm" for side, language in sides]
    wanted[wmt14.TEST] = dict.fromkeys(names, SEGMENTS)
    if recipe.nth is None:
        wanted[wmt14.DEV] = dict.fromkeys(wmt14.DEV.members(languages), SEGMENTS)
    for source, members in wanted.items():
        archive = data / "downloads" / "wmt14" / source.name
        download.fetch([host + source.path for host in source.hosts], archive)
        cut(archive, mirror / source.name, members)


def of_cnndm(pairs: int, data: Path, mirror: Path) -> None:
    """The first stories of each list, the shortened lists, and BART's vocabulary."""
    downloads = data / "cnndm" / "download"
    mirror.mkdir(parents=True, exist_ok=True)
    needed: set[str] = set()
    for split, name in cnndm.LISTS.items():
        path = download.fetch([f"{cnndm.LIST_HOST}/{name}"], downloads / name)
        count = pairs - 2 * HELD_OUT if split == "train" else HELD_OUT
        urls = stories.read_urls(path.read_bytes(), name)[:count]
        (mirror / name).write_text("".join(f"{url}\n" for url in urls), encoding="utf-8")
        needed.update(map(stories.file_name, urls))
    for name in cnndm.ARCHIVES:
        archive = download.fetch([f"{cnndm.STORY_HOST}/{name}"], downloads / name)
        _pick(archive, mirror / name, needed)
    _vocabulary(data / "cnndm", mirror)


def of_xsum(pairs: int, data: Path, mirror: Path) -> None:
    """The first articles of each split, the shortened list of splits, and BART's vocabulary."""
    downloads = data / "xsum" / "download"
    mirror.mkdir(parents=True, exist_ok=True)
    name = xsum.ADDRESSES[0].rsplit("/", 1)[-1]
    archive = download.fetch(xsum.ADDRESSES, downloads / name)
    path = download.fetch([f"{xsum.REPOSITORY}/{xsum.SPLIT_FILE}"], downloads / xsum.SPLIT_FILE)
    counts = {"train": pairs - 2 * HELD_OUT, "val": HELD_OUT, "test": HELD_OUT}
    ids = {split: several[: counts[split]] for split, several in xsum.read_split(path.parent).items()}
    keys = {xsum.SPLIT_KEYS[split]: several for split, several in ids.items()}
    (mirror / xsum.SPLIT_FILE).write_text(json.dumps(keys), encoding="utf-8")
    _pick(archive, mirror / name, {f"{number}.summary" for several in ids.values() for number in several})
    _vocabulary(data / "xsum", mirror)


def _vocabulary(folder: Path, mirror: Path) -> None:
    for name in (gpt2_bpe.ENCODER, gpt2_bpe.MERGES, gpt2_bpe.DICTIONARY):
        path = download.fetch([f"{gpt2_bpe.HOST}/{name}"], folder / "gpt2_bpe" / name)
        (mirror / name).write_bytes(path.read_bytes())


def _pick(archive: Path, output: Path, needed: Collection[str]) -> None:
    missing = set(needed)
    with tarfile.open(output, "w:gz") as made, archives.explain_damage(archive):
        for entry in archives.entries(archive, archive.name):
            name = entry.name.rsplit("/", 1)[-1]
            if entry.content is not None and name in missing:
                add(made, entry.name, entry.content.read())
                missing.discard(name)
            if not missing:
                break


def make(benchmark: str, pairs: int, data: Path, mirror: Path) -> None:
    """The miniature archives of a benchmark (a key of MAKERS) in the folder `mirror`, which DATA_MIRROR may name."""
    MAKERS[benchmark](pairs, data, mirror)


MAKERS: dict[str, Callable[[int, Path, Path], None]] = {
    "iwslt14_de_en": functools.partial(of_iwslt, iwslt.release_of("de", "en")),
    **{
        f"iwslt_{pair}": functools.partial(of_talks, iwslt_talks.TALKS[pair.replace("en", "").strip("-")])
        for pair in IWSLT_PAIRS
    },
    "wmt14_en_de": functools.partial(of_wmt14, "de"),
    "wmt14_en_fr": functools.partial(of_wmt14, "fr"),
    "cnndm": of_cnndm,
    "xsum": of_xsum,
}
