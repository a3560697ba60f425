"""Both directions in one data directory, with the dictionary of the one direction."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rdrop_fairseq.__main__ import main

pytestmark = pytest.mark.usefixtures("warm")

TEXT = {
    "train.de": "ein Haus\nzwei Häuser\nnichts\n", "train.en": "one house\ntwo houses\nnothing\n",
    "valid.de": "ein\n", "valid.en": "one\n",
}  # fmt: skip
WORDS = ["ein", "zwei", "Haus", "Häuser", "nichts", "one", "two", "house", "houses", "nothing"]


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A corpus as a prepare script leaves it, as far as it is looked at."""
    directory = tmp_path / "my corpus"
    (directory / "bin").mkdir(parents=True)
    for name, text in TEXT.items():
        (directory / name).write_text(text, encoding="utf-8")
    for language in ("de", "en"):
        (directory / "bin" / f"dict.{language}.txt").write_text("".join(f"{w} 1\n" for w in WORDS), encoding="utf-8")
    (directory / "bin" / "train.de-en.de.idx").touch()
    return directory


def test_each_pair_stands_in_both_directions(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fairseq.data import Dictionary, data_utils

    assert main(["prepare", "bisimcut", str(prepared), "--workers", "1"]) == 0
    data = prepared / "bidirectional" / "bin"
    assert capsys.readouterr().out == f"{data}\n"
    read = {}
    for side in ("src", "tgt"):
        words = Dictionary.load(str(data / f"dict.{side}.txt"))
        assert words.symbols[words.nspecial :] == WORDS  # ids as in the one direction: the embeddings can be taken over
        dataset = data_utils.load_indexed_dataset(str(data / f"train.src-tgt.{side}"), words)
        read[side] = [words.string(dataset[position]) for position in range(len(dataset))]
    german, english = ("".join(TEXT[f"train.{language}"]).splitlines() for language in ("de", "en"))
    assert read == {"src": german + english, "tgt": english + german}
    whole = json.loads((prepared / "bidirectional" / "manifest.json").read_text(encoding="utf-8"))
    assert whole["sentence_pairs"] == {"train": 6, "valid": 2}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bin/dict.en.txt", "one 1\n", "differ: binarize with a joined dictionary"),
        ("train.en", "one house\n", "train.de has 3 lines and "),
        ("valid.en", "one", "does not end in a line break"),
    ],
)
def test_what_cannot_be_joined(
    prepared: Path, capsys: pytest.CaptureFixture[str], name: str, content: str, message: str
) -> None:
    (prepared / name).write_text(content, encoding="utf-8")
    assert main(["prepare", "bisimcut", str(prepared)]) == 1
    assert message in capsys.readouterr().err
    assert not (prepared / "bidirectional" / "bin").exists()


def test_a_folder_that_was_not_prepared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "bisimcut", str(tmp_path)]) == 1
    assert "is not a binarized data directory" in capsys.readouterr().err
