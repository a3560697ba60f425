"""The tasks of GLUE from archives of the true layout: columns, headers, broken lines, dev sets, labels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fairseq.data import Dictionary, indexed_dataset
from small_glue import LABELS, row, sentences, write_archives

from rdrop_fairseq.corpus import glue
from rdrop_fairseq.corpus.glue_tasks import TASKS
from rdrop_fairseq.corpus.gpt2_bpe import Gpt2Bpe
from rdrop_fairseq.errors import UserError

pytestmark = pytest.mark.usefixtures("warm")

PAIRS = {"MNLI", "MRPC", "QNLI", "QQP", "RTE", "STS-B"}


@pytest.fixture
def mirror(mirror: Path) -> Path:
    write_archives(mirror, *(task.name for task in TASKS.values()))
    return mirror


def column(out: Path, name: str) -> list[str]:
    return (out / "text" / name).read_text(encoding="utf-8").split("\n")[:-1]


def counts(out: Path, title: str) -> dict:
    steps = json.loads((out / "manifest.json").read_text())["steps"]
    return next(step["counts"] for step in steps if step["title"] == title)


@pytest.mark.parametrize("key", TASKS)
def test_every_task_has_the_right_columns(key: str, mirror: Path, tmp_path: Path, without_fairseq: None) -> None:
    task, out = TASKS[key], tmp_path / "data" / "glue" / key
    assert glue.main([task.name, "--data", str(tmp_path / "data"), "--workers", "1", "--no-model"], prog="prepare") == 0
    firsts = {"valid": 1000, "valid1": 1500, "test": 2000, "test1": 2500}
    if key == "mrpc":  # dev is cut out of the train file: the even pairs below 16
        firsts = {"test": 2000}
        assert column(out, "valid.input0") == [sentences(n)[0] for n in range(0, 16, 2)]
        odd = [*range(1, 16, 2), *range(16, 32)]
        assert column(out, "train.input1") == [sentences(n)[1] for n in odd]
        assert column(out, "train.label") == [str(int(sentences(n)[2])) for n in odd]
    else:
        assert column(out, "train.input0")[:24] == [sentences(n)[0] for n in range(24)]
        assert len(column(out, "train.label")) == len(column(out, "train.input0"))
    for split, first in firsts.items():
        if split not in task.splits:
            continue
        count = {"test": 6, "valid": 8}.get(split, 4 if split == "test1" else 8) if key != "mnli" else None
        expected = [sentences(first + n) for n in range(count or len(column(out, f"{split}.input0")))]
        assert column(out, f"{split}.input0") == [pair[0] for pair in expected]
        assert (out / "text" / f"{split}.input1").exists() == (task.name in PAIRS)
        if task.name in PAIRS:
            assert column(out, f"{split}.input1") == [pair[1] for pair in expected]
        if split.startswith("valid"):
            labels = [row(task.name, first + n, ["score"])[0] for n in range(8)]
            expected_labels = [f"{float(label) / 5:.6g}" for label in labels] if key == "stsb" else labels
            assert column(out, f"{split}.label") == expected_labels
        else:
            assert not (out / "text" / f"{split}.label").exists()
    broken = {"qqp": 3, "stsb": 1}
    assert counts(out, "text of train")["broken"] == broken.get(key, 0)
    if key == "rte":  # an empty sentence stays, bytes that are no UTF-8 as well
        assert column(out, "train.input0")[-2:] == ["", "caf\ufffd"]
        assert (counts(out, "text of train")["empty"], counts(out, "text of train")["not_utf8"]) == (1, 1)


def test_binarized_as_fairseq_reads_it(mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """MNLI: two dev sets; classes by frequency in train; the sentences come back from the ids."""
    words = ["mnli", "--data", str(tmp_path), "--workers", "2", "--no-model"]
    assert glue.main(words, prog="prepare") == 0
    data = tmp_path / "glue" / "mnli" / "bin"
    assert capsys.readouterr().out == f"{data}\n"
    bpe = Gpt2Bpe(data / "encoder.json", data / "vocab.bpe")
    dictionary = Dictionary.load(str(data / "input1" / "dict.txt"))
    for split, first in (("train", 0), ("valid", 1000), ("valid1", 1500), ("test", 2000), ("test1", 2500)):
        read = indexed_dataset.make_dataset(str(data / "input1" / split), "mmap")
        assert [bpe.decode_line(dictionary.string(line)) for line in read] == [
            sentences(first + n)[1] for n in range(len(read))
        ]
        assert (data / "label" / f"{split}.idx").exists() == (not split.startswith("test"))
    labels = Dictionary.load(str(data / "label" / "dict.txt"))
    frequency = column(tmp_path / "glue" / "mnli", "train.label")
    assert labels.symbols[4:7] == sorted(LABELS["MNLI"], key=lambda label: -frequency.count(label))
    assert glue.main(words, prog="prepare") == 0
    assert capsys.readouterr().err.count("done before") == 12


def test_what_is_no_task_or_no_data(mirror: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="WNLI is not a task of GLUE that is known here: choose from mnli, mrpc"):
        glue.main(["WNLI"], prog="prepare")
    (mirror / "msr_paraphrase_train.txt").write_text("Quality\t#1 ID\nx\ty\n")
    with pytest.raises(UserError, match=r"has no usable line \(line 2: 2 fields, 5 are needed\)"):
        glue.main(["MRPC", "--data", str(tmp_path)], prog="prepare")
