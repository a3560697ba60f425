"""Miniature archives of GLUE with the files, headers, columns and nasty lines of the real ones."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path

COLORS, THINGS = ("red", "blue", "green"), ("dog", "car", "house", "song")
NLI = ("entailment", "neutral", "contradiction")
MNLI_HEAD = ["index", "promptID", "pairID", "genre", "s1b", "s2b", "s1p", "s2p", "sentence1", "sentence2"]
HEADERS = {
    "QQP": ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
    "QNLI": ["index", "question", "sentence", "label"],
    "RTE": ["index", "sentence1", "sentence2", "label"],
    "SST-2": ["sentence", "label"],
    "STS-B": ["index", "genre", "file", "year", "old", "source1", "source2", "sentence1", "sentence2", "score"],
}
TEST_HEADERS = {
    "QQP": ["id", "question1", "question2"],
    "SST-2": ["index", "sentence"],
    "CoLA": ["index", "sentence"],
}
ARCHIVES = {"QQP": "QQP-clean", "QNLI": "QNLIv2"}
ENTAILMENT = ("entailment", "not_entailment")
LABELS = {"QNLI": ENTAILMENT, "RTE": ENTAILMENT, "MNLI": NLI}
MRPC_HEAD = ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"]


def sentences(number: int) -> tuple[str, str, bool]:
    """Two sentences, and whether they speak of the same color: learnable from a handful."""
    draw = random.Random(number)
    first, second = draw.choice(COLORS), draw.choice(COLORS)
    return f"a {first} {draw.choice(THINGS)}", f'the "{second}" {draw.choice(THINGS)}', first == second


def row(task: str, number: int, columns: list[str]) -> list[str]:
    """A line's fields by the names of its columns."""
    first, second, same = sentences(number)
    labels = LABELS.get(task, ("1", "0"))
    label = f"{5 * same * 0.7 + 0.25 * (number % 5):.3f}" if task == "STS-B" else labels[not same]
    if task == "MNLI" and not same and number % 2:
        label = labels[2]
    values = {"sentence": first, "question": first, "sentence1": first, "question1": first, "#1 String": first}
    values |= {"sentence2": second, "question2": second, "#2 String": second}
    values |= dict.fromkeys(("label", "is_duplicate", "score", "gold_label", "Quality"), label)
    if task == "QNLI":
        values["sentence"] = second
    return [values.get(column, str(number)) for column in columns]


def table(task: str, columns: list[str], numbers: range, header: bool = True) -> bytes:
    lines = [columns] if header else []
    lines += [row(task, number, columns) for number in numbers]
    return "".join("\t".join(line) + "\n" for line in lines).encode()


def task_files(task: str, train: int, dev: int) -> dict[str, bytes]:
    """What is inside the archive of a task: name -> bytes."""
    splits = {"train": range(train), "dev": range(1000, 1000 + dev), "test": range(2000, 2006)}
    if task == "MNLI":
        files = {"train": table(task, [*MNLI_HEAD, "label1", "gold_label"], splits["train"])}
        judged = [f"label{n}" for n in range(1, 6)]
        for kind in ("matched", "mismatched"):
            shift = 500 * (kind == "mismatched")
            head, numbers = [*MNLI_HEAD, *judged, "gold_label"], range(1000 + shift, 1000 + shift + dev)
            files[f"dev_{kind}"] = table(task, head, numbers)
            files[f"test_{kind}"] = table(task, MNLI_HEAD, range(2000 + shift, 2004 + shift))
    elif task == "CoLA":
        columns = ["source", "label", "original", "sentence"]
        files = {split: table(task, columns, splits[split], header=False) for split in ("train", "dev")}
        files["test"] = table(task, TEST_HEADERS[task], splits["test"])
    else:
        head = HEADERS[task]
        files = {split: table(task, head, splits[split]) for split in ("train", "dev")}
        test = TEST_HEADERS.get(task, [name for name in head if name not in ("label", "score")])
        files["test"] = table(task, test, splits["test"])
    if task == "QQP":
        files["train"] += b"7\t8\t9\tbroken by a\nline end?\tyes\t1\n" + b"7\t8\t9\tx\ty\tz\t0\n"
    if task == "STS-B":
        files["train"] += b"9\tg\tf\ty\t1\ts\ts\tone\ttwo\tn/a\n"
    if task == "RTE":
        files["train"] += b"8\t\tan empty premise\tentailment\n" + b"9\tcaf\xe9\tlatin\tnot_entailment\r\n"
    inside = {f"{task}/{split}.tsv": data for split, data in files.items()}
    return {**inside, f"{task}/original/readme.txt": b"not needed\n"}


def mrpc_files(train: int, dev: int) -> dict[str, bytes]:
    """The two files of Senteval, with a byte order mark, and the list of the dev pairs."""
    both = table("MRPC", MRPC_HEAD, range(train + dev)).replace(b"\n", b"\r\n")
    ids = "".join(f"{number}\t{number}\n" for number in range(0, 2 * dev, 2))
    return {
        "msr_paraphrase_train.txt": b"\xef\xbb\xbf" + both,
        "msr_paraphrase_test.txt": table("MRPC", MRPC_HEAD, range(2000, 2006)),
        "mrpc_dev_ids.tsv": ids.encode(),
    }


def write_archives(mirror: Path, *tasks: str, train: int = 24, dev: int = 8) -> None:
    """The archives of these tasks in a folder for DATA_MIRROR."""
    mirror.mkdir(parents=True, exist_ok=True)
    for task in tasks:
        if task == "MRPC":
            for name, data in mrpc_files(train, dev).items():
                (mirror / name).write_bytes(data)
            continue
        with zipfile.ZipFile(mirror / f"{ARCHIVES.get(task, task)}.zip", "w") as archive:
            for name, data in task_files(task, train, dev).items():
                archive.writestr(name, data)
