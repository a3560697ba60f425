"""A rehearsal: what is cut from archives, and the whole way of each benchmark on miniature ones."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
from pathlib import Path
from typing import Callable

import pytest
import small_corpora
import tiny_bart

from rdrop_fairseq.__main__ import main as command_line
from rdrop_fairseq.checks import miniature, rehearse
from rdrop_fairseq.corpus import archives
from rdrop_fairseq.corpus.stories import file_name
from rdrop_fairseq.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
TINY_WORDS = [
    word
    for side in ("encoder", "decoder")
    for name, value in tiny_bart.SIZES.items()
    for word in (f"--{side}-{name}", value)
]


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for all hosts: archives of IWSLT14 and WMT14."""
    folder = tmp_path / "hosts"
    small_corpora.iwslt_archive(folder, count=300)
    small_corpora.wmt14_archives(folder)
    monkeypatch.setenv("DATA_MIRROR", folder.as_uri())
    return folder


def news(folder: Path, gpt2_files: Path, story: Callable[[int], bytes]) -> None:
    """CNN/DailyMail and bart.base in `folder`: 120 stories of train, 60 each of valid and test, in two archives."""
    shutil.copytree(gpt2_files, folder, dirs_exist_ok=True)
    splits = {"train": range(120), "val": range(120, 180), "test": range(180, 240)}
    for split, numbers in splits.items():
        (folder / f"all_{split}.txt").write_text("".join(f"http://example.org/{number}\n" for number in numbers))
    for rest, name in enumerate(("cnn", "dailymail")):
        numbers = range(rest, 240, 2)
        inside = {f"{name}/stories/{file_name(f'http://example.org/{n}')}": story(n) for n in numbers}
        small_corpora.pack(folder / f"{name}_stories.tgz", inside)
    for side in ("source", "target"):
        shutil.copy(folder / "dict.txt", folder / f"dict.{side}.txt")
    positions = ("--max-source-positions", "1024", "--max-target-positions", "1024")
    model = tiny_bart.publish(tiny_bart.task_and_model(folder, *positions)[1], folder / "model.pt")
    inside = {"bart.base/model.pt": model.read_bytes(), "bart.base/dict.txt": (folder / "dict.txt").read_bytes()}
    small_corpora.pack(folder / "bart.base.tar.gz", inside)


def rehearsal(tmp_path: Path, benchmark: str, *words: str) -> int:
    """The command on few pairs and updates of tiny models."""
    options = ["--root", str(ROOT), "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    options += ["--pairs", "200", "--updates", "8", "--"]
    return command_line(["rehearse", benchmark, *options, *TINY_WORDS, *words])


def test_iwslt_from_archive_to_comparison(
    mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rehearsal(tmp_path, "iwslt14_de_en") == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("the way is clear: iwslt14_de_en, ")
    assert printed.err.count("      ok, ") == 8
    assert "| sacreBLEU (detokenized) |" in (tmp_path / "out" / "08-compare.log").read_text()


def test_news_from_stories_to_rouge(
    mirror: Path,
    tmp_path: Path,
    gpt2_files: Path,
    story: Callable[[int], bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    news(mirror, gpt2_files, story)
    settings = ["--truncate-source-length", "48"]
    assert rehearsal(tmp_path, "cnndm", *settings) == 0, capsys.readouterr().err
    assert capsys.readouterr().out.startswith("the way is clear: cnndm, ")
    assert "41.24" in (tmp_path / "out" / "09-score-rdrop.log").read_text()
    prepared = tmp_path / "out" / "data" / "cnndm" / "text"
    assert len((prepared / "train.source").read_text().splitlines()) == 100
    assert len((prepared / "test.source").read_text().splitlines()) == 50


@pytest.mark.parametrize(("benchmark", "corpora"), [("wmt14_en_de", 3), ("wmt14_en_fr", 5)])
def test_wmt14_is_prepared_from_the_first_pairs(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, benchmark: str, corpora: int
) -> None:
    run = rehearse.run
    monkeypatch.setattr(rehearse, "run", lambda steps, out: run(steps[:1], out))
    assert rehearsal(tmp_path, benchmark) == 0
    text = next((tmp_path / "out" / "data").glob("wmt14*"))
    lines = [path for path in (text / "orig").rglob("*") if path.suffix in (".en", ".de", ".fr")]
    corpus = [path for path in lines if "newstest" not in path.name]
    assert len(corpus) == 2 * corpora
    assert max(len(path.read_bytes().split(b"\n")) - 1 for path in corpus) == -(-200 // corpora)
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
