"""A rehearsal: what is cut from archives, and the whole way of each benchmark on miniature ones."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path
from typing import Callable

import pytest
import small_corpora
import small_news

from rdrop_fairseq.__main__ import main as command_line
from rdrop_fairseq.checks import miniature, rehearse
from rdrop_fairseq.corpus import archives
from rdrop_fairseq.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("warm")

@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for all hosts: archives of IWSLT14 and WMT14."""
    folder = tmp_path / "hosts"
    small_corpora.iwslt_archive(folder, count=300)
    small_corpora.wmt14_archives(folder)
    monkeypatch.setenv("DATA_MIRROR", folder.as_uri())
    return folder


def rehearsal(tmp_path: Path, benchmark: str, *words: str, pairs: int = 200, updates: int = 8) -> int:
    """The command on few pairs and updates of tiny models."""
    options = ["--root", str(ROOT), "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    options += ["--pairs", str(pairs), "--updates", str(updates), "--"]
    return command_line(["rehearse", benchmark, *options, *small_news.SIZES, *words])


def test_iwslt_from_archive_to_comparison(
    mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one batch: each update ends an epoch, as on many GPUs, and fairseq writes no update checkpoints.
    A checkpoint of a big model takes as long as many updates."""
    assert rehearsal(tmp_path, "iwslt14_de_en", "--max-tokens", "65536", updates=16) == 0, capsys.readouterr().err
    printed = capsys.readouterr()
    assert printed.out.startswith("the way is clear: iwslt14_de_en, ")
    assert printed.err.count("      ok, ") == 8
    assert (tmp_path / "out" / "05-train-rdrop.log").read_text().count("Saved checkpoint") == 8
    assert "| sacreBLEU (detokenized) |" in (tmp_path / "out" / "08-compare.log").read_text()


def test_into_chinese_with_a_dictionary_for_each_language(
    mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_corpora.talk_archives(mirror, "zh", count=300)
    assert rehearsal(tmp_path, "iwslt_en-zh", updates=2) == 0, capsys.readouterr().err
    assert capsys.readouterr().out.startswith("the way is clear: iwslt_en-zh, ")
    assert "28.1" in (tmp_path / "out" / "07-generate-and-score-rdrop.log").read_text()
    scores = tmp_path / "out" / "scores" / "rdrop"
    assert "tok:zh" in (scores / "scores.json").read_text()
    published = (tmp_path / "out" / "data" / "iwslt17.zh-en" / "test.plain.zh").read_text(encoding="utf-8")
    assert (scores / "ref.detok.0").read_text(encoding="utf-8") == published


@pytest.mark.parametrize("benchmark", ["cnndm", "xsum"])
def test_articles_to_rouge(
    mirror: Path,
    tmp_path: Path,
    gpt2_files: Path,
    story: Callable[[int], bytes],
    benchmark: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make = small_news.news if benchmark == "cnndm" else small_news.articles
    make(mirror, gpt2_files, story)
    assert rehearsal(tmp_path, benchmark, "--truncate-source-length", "48") == 0, capsys.readouterr().err
    assert capsys.readouterr().out.startswith(f"the way is clear: {benchmark}, ")
    published = "41.24" if benchmark == "cnndm" else "37.25"
    assert published in (tmp_path / "out" / "09-score-rdrop.log").read_text()
    prepared = tmp_path / "out" / "data" / benchmark / "text"
    train, test = (100, 50) if benchmark == "cnndm" else (60, 10)  # of XSum there are no more
    assert len((prepared / "train.source").read_text().splitlines()) == train
    assert len((prepared / "test.source").read_text().splitlines()) == test


def test_english_french_from_archives_to_comparison(
    mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every 1333rd pair is valid: fewer pairs have none."""
    assert rehearsal(tmp_path, "wmt14_en_fr") == 1
    assert "--pairs at least 1333" in capsys.readouterr().err
    small_corpora.wmt14_archives(mirror, count=300)
    assert rehearsal(tmp_path, "wmt14_en_fr", pairs=1500, updates=2) == 0, capsys.readouterr().err
    assert capsys.readouterr().out.startswith("the way is clear: wmt14_en_fr, ")


def test_wmt14_is_prepared_from_the_first_pairs(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = rehearse.run
    monkeypatch.setattr(rehearse, "run", lambda steps, out: run(steps[:1], out))
    assert rehearsal(tmp_path, "wmt14_en_de") == 0
    text = next((tmp_path / "out" / "data").glob("wmt14*"))
    lines = [path for path in (text / "orig").rglob("*") if path.suffix in (".en", ".de")]
    corpus = [path for path in lines if "newstest" not in path.name]
    assert len(corpus) == 2 * 3
    assert max(len(path.read_bytes().split(b"\n")) - 1 for path in corpus) == -(-200 // 3)
    assert (text / "bin" / "dict.en.txt").is_file()


def test_a_step_that_fails_is_named(mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = rehearse.Step("average rdrop", ["average", str(tmp_path), "--last", "2", "--output", str(tmp_path / "x")])
    with pytest.raises(UserError, match=r"failed at: average rdrop \(error: .* has 0 epoch .*01-average-rdrop"):
        rehearse.run([step, step], tmp_path)
    assert "[2/2]" not in capsys.readouterr().err


def test_a_folder_of_something_else_is_kept(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").touch()
    assert rehearsal(tmp_path, "iwslt14_de_en") == 1
    assert (tmp_path / "out" / "thesis.txt").is_file()


def test_archives_are_cut_by_lines_and_segments(tmp_path: Path) -> None:
    inner = gzip.compress(b"1\n2\n3\n")
    with tarfile.open(tmp_path / "in.tar", "w") as archive:
        for name, data in {"a.gz": inner, "t.sgm": b'<x>\n<seg id="1">\n\n<seg id="2">\n', "b": b"l\n" * 9}.items():
            miniature.add(archive, name, data)
    miniature.cut(tmp_path / "in.tar", tmp_path / "m" / "in.tar", {"a.gz": 2, "t.sgm": 1})
    archives.unpack(tmp_path / "m" / "in.tar", tmp_path / "whole")
    assert gzip.decompress((tmp_path / "whole" / "a.gz").read_bytes()) == b"1\n2\n"
    assert (tmp_path / "whole" / "t.sgm").read_bytes() == b'<x>\n<seg id="1">\n'
    assert not (tmp_path / "whole" / "b").exists()


def test_nothing_after_the_last_needed_member_is_read(tmp_path: Path) -> None:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as archive:
        miniature.add(archive, "first", b"1\n2\n")
        miniature.add(archive, "second", bytes(range(256)) * 40_000)
    (tmp_path / "in.tgz").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    miniature.cut(tmp_path / "in.tgz", tmp_path / "out.tgz", {"first": 1})
    with pytest.raises(UserError, match="cut short or damaged"):
        miniature.cut(tmp_path / "in.tgz", tmp_path / "out.tgz", {"third": 1})
