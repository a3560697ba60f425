"""The files, disk space and config that each benchmark needs. One table to extend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rdrop_fairseq.corpus import (
    cnndm,
    glue_tasks,
    gpt2_bpe,
    iwslt,
    iwslt_talks,
    pretrained_models,
    wikitext,
    wmt14,
    xsum,
)

# address(es) of one file -> where it is kept, from the folder of all data
File = tuple[tuple[str, ...], str]


@dataclass(frozen=True)
class Benchmark:
    """One benchmark. folder: of its data, below the folder of all data, with manifest.json and `binarized`.

    gigabytes: free disk for archives, text and binarized data, estimated from the sizes of the archives; without
    checkpoints. config: the experiment that is checked. model: the published model that it starts from.
    """

    prepare: str
    folder: str
    config: str
    gigabytes: int
    files: tuple[File, ...]
    model: str = ""
    binarized: str = "bin"


def _wmt14(target: str) -> tuple[File, ...]:
    recipe = next(iter(wmt14.RECIPES[target].values()))
    sources = [*recipe.corpora, wmt14.TEST, *([wmt14.DEV] if recipe.nth is None else [])]
    return tuple(
        (tuple(host + source.path for host in source.hosts), f"downloads/wmt14/{source.name}") for source in sources
    )


def _bpe(folder: str) -> Iterator[File]:
    for name in (gpt2_bpe.ENCODER, gpt2_bpe.MERGES, gpt2_bpe.DICTIONARY):
        yield (f"{gpt2_bpe.HOST}/{name}",), f"{folder}/gpt2_bpe/{name}"


def _model(name: str) -> File:
    return (f"{pretrained_models.HOST}/{name}.tar.gz",), f"downloads/models/{name}.tar.gz"


def _glue() -> Iterator[File]:
    for task in glue_tasks.TASKS.values():
        for url in task.archives:
            yield (url,), f"glue/{task.key}/download/{url.rsplit('/', 1)[-1]}"


# Directions of IWSLT beside German: their configs are iwslt_PAIR_SYSTEM.
IWSLT_PAIRS = ("en-fr", "fr-en", "en-zh", "zh-en", "en-es", "es-en")


def _iwslt(pair: str, config: str) -> Benchmark:
    release = iwslt.release_of(*pair.split("-"))
    script = "scripts/prepare_iwslt14.sh"
    if talks := iwslt_talks.TALKS.get(release.languages[0]):
        files = tuple((archive.addresses, archive.kept) for archive in talks.archives)
        return Benchmark(" ".join([script, *release.languages]), release.folder, config, 1, files)
    return Benchmark(script, release.folder, config, 1, ((release.addresses, release.archive),))


BENCHMARKS = {
    "iwslt14": _iwslt("de-en", "iwslt14_de_en_rdrop"),
    **{f"iwslt_{pair}": _iwslt(pair, f"iwslt_{pair}_rdrop") for pair in IWSLT_PAIRS},
    "wmt14_en_de": Benchmark(
        "scripts/prepare_wmt14_en_de.sh", "wmt14.en-de", "wmt14_en_de_big_rdrop", 20, _wmt14("de")
    ),
    "wmt14_en_fr": Benchmark(
        "scripts/prepare_wmt14_en_fr.sh", "wmt14.en-fr", "wmt14_en_fr_big_rdrop", 80, _wmt14("fr")
    ),
    "cnndm": Benchmark(
        "scripts/prepare_cnndm.sh",
        "cnndm",
        "cnndm_bart_large_rdrop",
        20,
        (
            *(((url,), path) for url, path in cnndm.ADDRESSES.items()),
            *_bpe("cnndm"),
            *map(_model, pretrained_models.BARTS),
        ),
        "bart.large",
    ),
    "xsum": Benchmark(
        "scripts/prepare_summarization.sh --xsum",
        "xsum",
        "xsum_bart_large_rdrop",
        15,
        (
            (xsum.ADDRESSES, f"xsum/download/{xsum.ADDRESSES[0].rsplit('/', 1)[-1]}"),
            ((f"{xsum.REPOSITORY}/{xsum.SPLIT_FILE}",), f"xsum/download/{xsum.SPLIT_FILE}"),
            *_bpe("xsum"),
            *map(_model, pretrained_models.BARTS),
        ),
        "bart.large",
    ),
    "glue": Benchmark(
        "scripts/prepare_glue.sh", "glue/mrpc", "glue_mrpc_roberta_large_rdrop", 10,
        (*_glue(), *_bpe("glue"), _model("roberta.large")), "roberta.large",
    ),
    "wikitext103": Benchmark(
        "scripts/prepare_wikitext103.sh", "wikitext103", "wikitext103_gpt_rdrop", 2,
        ((tuple(wikitext.ADDRESSES), f"wikitext103/download/{wikitext.NAME}"),),
    ),
}  # fmt: skip

IMAGES = ("cifar100", "imagenet")  # for Vision Transformers: no archive to prepare, no fairseq


def kept(file: File, data: Path) -> Path:
    """The place of a fetched file."""
    return data / file[1]
