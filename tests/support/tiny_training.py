"""A data directory of 16 word types, small enough to train on in a second."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY_MODEL = [
    *("--encoder-layers", "1", "--decoder-layers", "1", "--encoder-attention-heads", "2"),
    *("--decoder-attention-heads", "2", "--encoder-embed-dim", "16", "--decoder-embed-dim", "16"),
    *("--encoder-ffn-embed-dim", "16", "--decoder-ffn-embed-dim", "16", "--num-workers", "0"),
]


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Binarized de-en: 400 / 20 / 20 pairs that say the same on both sides. The path has a space in it."""
    from fairseq import options
    from fairseq_cli import preprocess

    folder = tmp_path_factory.mktemp("tiny data")
    draw = random.Random(1)
    for split, count in (("train", 400), ("valid", 20), ("test", 20)):
        lines = [" ".join(draw.choices("abcdefgh", k=draw.randint(3, 9))) for _ in range(count)]
        for language in ("de", "en"):
            (folder / f"{split}.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = ["-s", "de", "-t", "en", "--joined-dictionary", "--destdir", str(folder / "bin")]
    for split in ("train", "valid", "test"):
        words += [f"--{split}pref", str(folder / split)]
    preprocess.main(options.get_preprocessing_parser().parse_args(words))
    return folder / "bin"


def run_script(*words: object, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    """A script of scripts/ under this Python, one thread, no GPU."""
    whole = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **env}
    command = [str(word) for word in words]
    return subprocess.run(command, cwd=cwd, env=whole, capture_output=True, text=True, timeout=300)


@pytest.fixture
def script():
    """`run_script`, as a fixture: a conftest cannot be imported under importlib mode."""
    return run_script


@pytest.fixture
def tiny_model() -> list[str]:
    """Options that make any Transformer tiny."""
    return list(TINY_MODEL)
