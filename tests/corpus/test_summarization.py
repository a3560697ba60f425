"""The preparations for BART: pairs, XSum's own files, CNN/DailyMail's archives; through fairseq-preprocess."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Callable

import pytest
import small_corpora
from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import MMapIndexedDataset

from rdrop_fairseq.corpus import cnndm, pretrained_models, stories, summarization, xsum
from rdrop_fairseq.corpus.gpt2_bpe import Gpt2Bpe
from rdrop_fairseq.errors import UserError

pytestmark = pytest.mark.usefixtures("warm")


def texts(out: Path, split: str, side: str) -> list[str]:
    """The binarized lines of a split as text again."""
    dictionary = Dictionary.load(str(out / "bin" / f"dict.{side}.txt"))
    bpe = Gpt2Bpe(out / "gpt2_bpe" / "encoder.json", out / "gpt2_bpe" / "vocab.bpe")
    data = MMapIndexedDataset(str(out / "bin" / f"{split}.source-target.{side}"))
    return [bpe.decode_line(dictionary.string(line)) for line in data]


def text(out: Path, name: str) -> list[str]:
    return (out / "text" / name).read_text(encoding="utf-8").split("\n")[:-1]


def manifest(out: Path) -> dict:
    return json.loads((out / "manifest.json").read_text(encoding="utf-8"))


def counts(out: Path, title: str) -> dict:
    return next(step["counts"] for step in manifest(out)["steps"] if step["title"] == title)


def test_any_pairs(mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs, out = tmp_path / "my pairs", tmp_path / "out"
    pairs.mkdir()
    (pairs / "train.source").write_bytes(b"Ann won.\r\n\nBob\ncaf\xe9\nlost\n")
    (pairs / "train.target").write_bytes(b"Ann\nnobody\nBob did\nlatin\n\n")
    for side in ("source", "target"):
        (pairs / f"val.{side}").write_text("Eve, in Oslo  now\n")
    assert summarization.main([str(pairs), "--out", str(out), "--workers", "2", "--no-model"], prog="prepare") == 0
    assert capsys.readouterr().out == f"{out / 'bin'}\n"
    assert texts(out, "train", "source") == ["Ann won.", "", "Bob", "caf\ufffd"]
    assert texts(out, "train", "target") == ["Ann", "nobody", "Bob did", "latin"]
    assert texts(out, "valid", "source") == ["Eve, in Oslo  now"]
    assert not (out / "bin" / "test.source-target.source.bin").exists()
    assert len(Dictionary.load(str(out / "bin" / "dict.source.txt"))) == 384
    for name in ("encoder.json", "vocab.bpe"):  # the data directory can be taken elsewhere as it is
        assert (out / "bin" / name).read_bytes() == (mirror / name).read_bytes()
    found = counts(out, "text of train")
    assert {name: found[name] for name in ("pairs", "dropped_without_summary", "empty_article", "not_utf8")} == {
        "pairs": 4,
        "dropped_without_summary": 1,
        "empty_article": 1,
        "not_utf8": 1,
    }
    assert counts(out, "binarize")["train.source"]["unknown_percent"] == 0
    assert manifest(out)["sentence_pairs"] == {"train": 4, "val": 1}

    assert summarization.main([str(pairs), "--out", str(out), "--no-model"], prog="prepare") == 0
    assert capsys.readouterr().err.count("done before") == 5  # train and val, text and BPE; binarize


def test_xsum_layout(
    mirror: Path, without_fairseq: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "xsum", tmp_path / "out"
    (folder / xsum.FOLDER).mkdir(parents=True)
    for number in range(6):
        article = f"[SN]FIRST-SENTENCE[SN]\nSum {number}.\n[SN]RESTBODY[SN]\nBody {number}.\nMore.\n"
        (folder / xsum.FOLDER / f"{number}.summary").write_text(article)
    ids = {"train": ["4", "0", "77"], "validation": ["1"], "test": ["3"]}
    (folder / xsum.SPLIT_FILE).write_text(json.dumps(ids))
    summarization.main([str(folder), "--out", str(out), "--no-model"], prog="prepare")
    assert text(out, "train.source") == ["Body 4. More.", "Body 0. More."]
    assert text(out, "test.target") == ["Sum 3."]
    assert (out / "text" / "train.missing").read_text() == "77\n"
    assert counts(out, "text of train")["missing"] == 1
    warning = capsys.readouterr().err
    assert "train has 2 sentence pairs" in warning
    assert "204,045" in warning


def test_xsum_from_its_authors(mirror: Path, without_fairseq: None, tmp_path: Path) -> None:
    article = b"[SN]FIRST-SENTENCE[SN]\nSum.\n[SN]RESTBODY[SN]\nBody.\n"
    files = {f"{xsum.FOLDER}/{number}.summary": article for number in range(3)}
    small_corpora.pack(mirror / "XSUM-EMNLP18-Summary-Data-Original.tar.gz", files)
    ids = {"train": ["0"], "validation": ["1"], "test": ["2"]}
    (mirror / xsum.SPLIT_FILE).write_text(json.dumps(ids))
    out = tmp_path / "out"
    for name in pretrained_models.BARTS:
        small_corpora.pack(mirror / f"{name}.tar.gz", {f"{name}/model.pt": b"weights", f"{name}/dict.txt": b"1 1\n"})
    words = ["--xsum", "--out", str(out), "--workers", "1", "--models", str(tmp_path)]
    assert summarization.main(words, prog="prepare") == 0
    assert all((tmp_path / name / "model.pt").read_bytes() == b"weights" for name in pretrained_models.BARTS)
    assert text(out, "train.source") == ["Body."]
    where = manifest(out)["inputs"]["XSUM-EMNLP18-Summary-Data-Original.tar.gz"]["published_at"]
    assert where[0].startswith("http://bollin.inf.ed.ac.uk/public/direct/")
    for wrong in ([], ["--xsum", str(tmp_path)]):
        with pytest.raises(SystemExit):
            summarization.main(wrong, prog="prepare")


def test_cnn_dailymail(
    mirror: Path,
    without_fairseq: None,
    tmp_path: Path,
    story: Callable[[int], bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    urls = [f"http://example.org/{number}" for number in range(8)]
    contents = [story(number) for number in range(8)]
    contents[2] = b"No highlights here.\n"
    contents[3] = b"\n\n@highlight\n\nNo article here"
    contents[4] = b"(CNN) Word\n\n@highlight\n\nThe word"
    contents[5] = b"Caf\xe9\n\n@highlight\n\nNot UTF-8"
    files = [stories.file_name(url) for url in urls]
    for archive, folder, numbers in (("cnn", "cnn", (0, 1, 2, 3)), ("dailymail", "dailymail", (4, 5, 6))):
        inside = {f"{folder}/stories/{files[n]}": contents[n] for n in numbers}
        small_corpora.pack(mirror / f"{archive}_stories.tgz", inside)
    for split, numbers in (("train", (6, 0, 7, 2, 3)), ("val", (1,)), ("test", (5, 4, 2))):
        (mirror / f"all_{split}.txt").write_text("".join(urls[n] + "\n" for n in numbers))

    cnndm.main(["--out", str(out), "--workers", "1", "--no-model"], prog="prepare")
    expected = [stories.parse(contents[n]) for n in (6, 0, 3)]
    assert text(out, "train.source") == [pair.article for pair in expected]
    assert text(out, "train.target") == [pair.summary for pair in expected]
    assert text(out, "test.source") == ["Caf\ufffd.", "Word.", "No highlights here."]
    assert text(out, "test.target") == ["Not UTF-8.", "The word.", ""]
    assert (out / "text" / "train.missing").read_text() == f"{urls[7]}\n"
    train, test = counts(out, "text of train"), counts(out, "text of test")
    assert (train["missing"], train["dropped_without_summary"], train["empty_article"]) == (1, 1, 1)
    assert (test["not_utf8"], test["one_word_article"], test["empty_summary"]) == (1, 2, 1)
    told = manifest(out)
    assert set(told["inputs"]) == {
        "cnn_stories.tgz", "dailymail_stories.tgz", "all_train.txt", "all_val.txt", "all_test.txt",
        "encoder.json", "vocab.bpe", "dict.txt",
    }  # fmt: skip
    assert told["options"] == {"add_periods": True, "cut_dateline": True}
    compared = told["known_counts"]["test"]
    assert (compared["known"], compared["found"], compared["within_1_percent"]) == (11_490, 3, False)

    # Another option redoes what depends on it; what is fetched and unpacked stays.
    capsys.readouterr()
    options = ["--no-add-periods", "--no-cut-dateline", "--no-model"]
    cnndm.main(["--out", str(out), "--workers", "2", *options], prog="prepare")
    assert capsys.readouterr().err.count("done before") == 2
    assert text(out, "test.target")[0] == "Not UTF-8"
    assert text(out, "test.source")[1] == "(CNN) Word"
    assert manifest(out)["options"] == {"add_periods": False, "cut_dateline": False}


def test_no_story_of_a_list_is_there(mirror: Path, tmp_path: Path) -> None:
    for name in cnndm.ARCHIVES:
        small_corpora.pack(mirror / name, {"x/stories/y.story": b"z"})
    for split in ("train", "val", "test"):
        (mirror / f"all_{split}.txt").write_text("http://example.org/none\n")
    with pytest.raises(UserError, match=r"no pair .* was found for train"):
        cnndm.main(["--out", str(tmp_path / "out")], prog="prepare")


@pytest.mark.parametrize("present", [(), ("train",)])
def test_folder_without_pairs(tmp_path: Path, present: tuple[str, ...]) -> None:
    for split in present:
        for side in ("source", "target"):
            (tmp_path / f"{split}.{side}").write_text("a\n")
    with pytest.raises(UserError, match=r"has no .*val\.source and val\.target"):
        summarization.main([str(tmp_path)], prog="prepare")
    with pytest.raises(UserError, match="is not a directory"):
        summarization.main([str(tmp_path / "none")], prog="prepare")
