"""A data directory that fairseq-train would fail on is refused with the script that makes it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.training.data import check_data

PREPARE = "scripts/prepare_iwslt14.sh"


@pytest.mark.parametrize(("source", "target"), [("de", "en"), ("en", "de"), (None, None)])
def test_whole_data_serves_both_directions(tiny_data: Path, source: str, target: str) -> None:
    check_data(str(tiny_data), source, target, PREPARE)


@pytest.mark.parametrize("name", ["dict.de.txt", "train.de-en.en.bin", "valid.de-en.de.idx", "valid.de-en.en.bin"])
def test_each_missing_or_empty_file_is_named(tiny_data: Path, tmp_path: Path, name: str) -> None:
    """fairseq-preprocess makes an empty set without a word, and fairseq-train cannot map it into memory."""
    copy = tmp_path / "copy"
    shutil.copytree(tiny_data, copy)
    way_out = f"make it with {PREPARE}, or name another data directory after the config"
    if name.endswith(".bin"):
        (copy / name).write_bytes(b"")
        with pytest.raises(UserError) as caught:
            check_data(str(copy), "de", "en", PREPARE)
        assert str(caught.value) == f"{copy}/{name} is empty: {way_out}"
    (copy / name).unlink()
    with pytest.raises(UserError) as caught:
        check_data(str(copy), "de", "en", PREPARE)
    assert str(caught.value) == f"{copy} has no {name}: {way_out}"


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no directory .*nowhere: give a directory made by fairseq-preprocess"):
        check_data(str(tmp_path / "nowhere"), "de", "en", None)
