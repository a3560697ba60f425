"""Shared by the preparations: a folder that stands for all hosts, and binarizing without fairseq."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rdrop_fairseq.corpus import binarize


@pytest.fixture
def mirror(gpt2_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for all hosts, with GPT-2's vocabulary in it."""
    folder = tmp_path / "mirror"
    shutil.copytree(gpt2_files, folder)
    monkeypatch.setenv("DATA_MIRROR", folder.as_uri())
    return folder


@pytest.fixture
def without_fairseq(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out fairseq-preprocess, which takes seconds; what it would be called with is in the folder that it makes.

    The real one is tested in test_binarize.py and in one test of each kind of corpus.
    """

    def preprocess(command: list[str], text: Path, names: list[str], destination: Path, workers: int) -> dict:
        destination.mkdir(parents=True)
        (destination / "command").write_text(" ".join(command[3:]))
        return {}

    monkeypatch.setattr(binarize, "_preprocess", preprocess)
