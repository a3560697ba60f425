"""Summaries of a tiny BART: order, batches, special articles, resuming, settings, files that do not fit."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Callable

import pytest
import tiny_bart
import torch

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.summarizing import summarize
from rdrop_fairseq.summarizing.summarizer import Summarizer, batches

pytestmark = pytest.mark.usefixtures("warm")

ARTICLES = ["Ann won.", "", "People in Oslo saw Bob. " * 30, "x", " \t", "It was a good day there.", "caf\udce9 there"]
LINES = "\n".join(ARTICLES).encode("utf-8", errors="surrogateescape") + b"\n"
SHORT = ["--beam", "2", "--max-len-b", "6", "--min-len", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def model(gpt2_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.pt in the published layout, and what summarizing needs beside it."""
    folder = tmp_path_factory.mktemp("bart tiny")
    tiny_bart.copy_vocabulary(gpt2_files, folder)
    torch.manual_seed(1)
    bart = tiny_bart.task_and_model(folder)[1]
    for parameter in bart.parameters():  # BART's initial weights are so small that every article has one summary
        parameter.data.mul_(12)
    tiny_bart.publish(bart, folder / "model.pt")
    return folder


@pytest.fixture
def run(model: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Summarizes LINES with these options to the file out; returns its lines."""

    def run(*words: str) -> list[str]:
        (tmp_path / "articles").write_bytes(LINES)
        files = [str(model / "model.pt"), str(model), str(tmp_path / "articles"), "--out", str(tmp_path / "out")]
        assert summarize.main([*files, *SHORT, *words], prog="summarize") == 0
        return (tmp_path / "out").read_text(encoding="utf-8").split("\n")[:-1]

    return run


def test_in_order_for_any_batches(run: Callable[..., list[str]], model: Path, tmp_path: Path) -> None:
    settings = {**summarize.PRESETS["cnndm"], "beam": 2, "max_len_b": 6, "min_len": 2}
    alone = Summarizer([model / "model.pt"], model, settings, bos=True, device="cpu")
    texts = [line.decode("utf-8", errors="replace").strip() for line in LINES.split(b"\n")[:-1]]
    expected = [alone.summarize([alone.fit(alone.encode(text))])[0] if text else "" for text in texts]
    assert len(set(expected)) >= 4
    for words in (["--batch-size", "2"], ["--max-tokens", "40"], []):
        assert run(*words) == expected
        (tmp_path / "out").unlink()


def test_special_articles_are_counted(
    run: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summaries = run()
    assert [number for number, text in enumerate(summaries) if not text] == [1, 4]
    counts = {"articles": 7, "empty": 2, "one_word": 1, "not_utf8": 1, "truncated": 1}
    assert json.loads((tmp_path / "out.json").read_text())["counts"] == counts
    assert "7 articles, 2 empty, 1 one word, 1 not utf8, 1 truncated" in capsys.readouterr().err


def test_killed_run_goes_on(
    run: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = run()
    for file in tmp_path.glob("out*"):
        file.unlink()
    seen: list[int] = []
    original = Summarizer.summarize

    def killed(self: Summarizer, articles: list[torch.Tensor]) -> list[str]:
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(len(articles))
        return original(self, articles)

    monkeypatch.setattr(Summarizer, "summarize", killed)
    with pytest.raises(KeyboardInterrupt):
        run("--batch-size", "1")
    assert not (tmp_path / "out").exists()
    assert len((tmp_path / "out.partial").read_text().splitlines()) == 1 + 3
    seen.clear()
    assert run("--batch-size", "1") == expected  # the two articles that were left
    assert len(seen) == 2
    assert not (tmp_path / "out.partial").exists()

    seen[:] = [0, 0, 0]  # a model that is asked now would be killed
    capsys.readouterr()
    assert run() == expected
    assert "has these summaries already" in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        run("--beam", "3")


def test_summaries_of_another_dictionary_are_made_again(
    run: Callable[..., list[str]], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same model, articles and settings, but other files beside them."""
    run()
    shutil.copytree(model, tmp_path / "other")
    words = [str(model / "model.pt"), str(tmp_path / "other"), str(tmp_path / "articles"), "--out"]
    summarize.main([*words, str(tmp_path / "out"), *SHORT], prog="summarize")
    assert "has these summaries already" not in capsys.readouterr().err


def test_killed_between_summaries_and_their_record(
    run: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of the run before must not vouch for the summaries of this one."""
    expected = run()

    def killed() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(summarize.manifest, "versions", killed)
        with pytest.raises(KeyboardInterrupt):
            run("--max-len-b", "3")
    assert (tmp_path / "out").read_text(encoding="utf-8").split("\n")[:-1] != expected
    assert run() == expected


def test_stdin_to_stdout(
    model: Path, run: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = run()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(LINES[:-1])))  # last line without its \n
    capsys.readouterr()
    summarize.main([str(model / "model.pt"), str(model), *SHORT], prog="summarize")
    assert capsys.readouterr().out.split("\n")[:-1] == expected


def test_begin_of_sentence_is_an_option(model: Path) -> None:
    with_bos, without = (
        Summarizer([model / "model.pt"], model, {"beam": 1, "max_len_b": 4}, bos=bos, device="cpu") for bos in (1, 0)
    )
    long = with_bos.encode(ARTICLES[2])
    assert with_bos.fit(long)[:2].tolist() == [0, long[0]]
    assert (len(with_bos.fit(long)), len(without.fit(long)), with_bos.limit) == (64, 64, 64)
    assert with_bos.fit(long)[-1] == without.fit(long)[-1] == 2
    assert without.fit(long)[0] == long[0]


def test_batches_by_length() -> None:
    lengths = {0: 3, 1: 10, 2: 4, 3: 3, 4: 10}
    assert list(batches(lengths, 20, 9)) == [[1, 4], [2, 0, 3]]
    assert list(batches(lengths, 5, 9)) == [[1], [4], [2], [0], [3]]  # an article of its own, however long
    assert list(batches(lengths, 100, 2)) == [[1, 4], [2, 0], [3]]
    assert list(batches({}, 5, 9)) == []


def test_files_that_are_missing_or_do_not_fit(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("An article\n")

    def refused(checkpoint: Path, data: Path, article: Path = tmp_path / "a") -> str:
        with pytest.raises(UserError) as error:
            summarize.main([str(checkpoint), str(data), str(article)], prog="summarize")
        return str(error.value)

    assert "none.pt is not there" in refused(tmp_path / "none.pt", model)
    assert "has no encoder.json" in refused(model / "model.pt", tmp_path)
    assert "cannot read" in refused(model / "model.pt", model, tmp_path / "nothing")
    for name in ("encoder.json", "vocab.bpe"):
        shutil.copy(model / name, tmp_path / name)
    assert "has no dict.source.txt or dict.txt" in refused(model / "model.pt", tmp_path)
    (tmp_path / "dict.txt").write_text("1 1\n2 1\n")
    assert "has 385 embeddings and the dictionary of the data has 6 entries" in refused(model / "model.pt", tmp_path)
