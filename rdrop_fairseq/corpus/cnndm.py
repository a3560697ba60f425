"""CNN/DailyMail: from two archives of stories and three lists of urls to a binarized data directory for BART."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from rdrop_fairseq.corpus import archives, pretrained_models, stories
from rdrop_fairseq.corpus.article_pairs import SPLITS, PairWriter
from rdrop_fairseq.corpus.manifest import Known
from rdrop_fairseq.corpus.summarization import Preparation, add_common

STORY_HOST = "https://huggingface.co/datasets/cnn_dailymail/resolve/11343c3752184397d56efc19a8a7cceb68089318/data"
LIST_HOST = "https://raw.githubusercontent.com/abisee/cnn-dailymail/master/url_lists"
ARCHIVES = ("cnn_stories.tgz", "dailymail_stories.tgz")
LISTS = {split: f"all_{split}.txt" for split in SPLITS}
# address -> where the file is kept, from the folder of all data
ADDRESSES = {
    **{f"{STORY_HOST}/{name}": f"cnndm/download/{name}" for name in ARCHIVES},
    **{f"{LIST_HOST}/{name}": f"cnndm/download/{name}" for name in LISTS.values()},
}
KNOWN = {"train": Known(287_227), "val": Known(13_368), "test": Known(11_490)}


def prepare(out: Path, workers: int, add_periods: bool = True, cut_dateline: bool = True) -> Path:
    """Runs all steps from the downloads on; returns the data directory."""
    options = {"add_periods": add_periods, "cut_dateline": cut_dateline}
    preparation = Preparation(out, "CNN/DailyMail", list(SPLITS), options, workers)
    pipeline = preparation.pipeline
    downloads = out / "download"
    fetched = [pipeline.download([f"{STORY_HOST}/{name}"], downloads / name) for name in ARCHIVES]
    lists = {split: pipeline.download([f"{LIST_HOST}/{name}"], downloads / name) for split, name in LISTS.items()}
    folders = [out / "stories" / archive.name.split("_")[0] for archive in fetched]
    for archive, folder in zip(fetched, folders):

        def unpack(parts: list[Path], archive: Path = archive) -> dict[str, int]:
            archives.unpack(archive, parts[0], None)
            return {"stories": sum(1 for _ in parts[0].rglob("*.story"))}

        pipeline.step(f"unpack {archive.name}", [folder], unpack, [archive])
    for split in SPLITS:

        def reader(writer: PairWriter, split: str = split) -> list[str]:
            return copy(lists[split], folders, writer, split, add_periods, cut_dateline)

        preparation.read(split, reader, [lists[split], *folders], options)
    data = preparation.encode()
    pipeline.finish(preparation.counts, KNOWN)
    return data


def copy(
    url_list: Path,
    folders: Sequence[Path],
    writer: PairWriter,
    title: str,
    add_periods: bool = True,
    cut_dateline: bool = True,
) -> list[str]:
    """Passes the story of each url to the writer, in the order of the list; returns the urls that have no story."""
    found = {path.name: path for folder in folders for path in folder.rglob("*.story")}
    missing = []
    urls = stories.read_urls(url_list.read_bytes(), str(url_list))
    for url in tqdm(urls, desc=title, unit="stories", mininterval=1.0):
        path = found.get(stories.file_name(url))
        if path is None:
            missing.append(url)
        else:
            story = stories.parse(path.read_bytes(), add_periods, cut_dateline)
            writer.add(story.article, story.summary, story.utf8)
    return missing


def main(argv: list[str], prog: str) -> int | None:
    """`prepare cnndm`."""
    parser = argparse.ArgumentParser(prog=prog, description=(__doc__ or "").split("\n\n")[0])
    add_common(parser)
    pretrained_models.add_model_options(parser)
    parser.add_argument(
        "--add-periods",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="end each line of a story that has no sentence end (captions, most highlights) with a period, as in the "
        "files that published figures were measured on; ROUGE-Lsum needs it",
    )
    parser.add_argument(
        "--cut-dateline",
        action=argparse.BooleanOptionalAction,
        default=True,
        help='cut an article\'s beginning up to "(CNN)", if that is within its first 50 characters',
    )
    args = parser.parse_args(argv)
    data = prepare(args.out or Path("data/cnndm"), args.workers, args.add_periods, args.cut_dateline)
    pretrained_models.fetch_wanted(args)
    print(data)
    return 0
