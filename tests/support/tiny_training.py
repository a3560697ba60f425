"""A data directory of 16 word types, small enough to train on in a second."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from warm_python import start

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


@pytest.fixture
def plan(tiny_data: Path, monkeypatch: pytest.MonkeyPatch):
    """plan(words, gpus, capability, ...): the job that the launcher makes of a config on such a machine."""
    from rdrop_fairseq.training import hardware, launch

    monkeypatch.chdir(ROOT)

    def make(
        words: str = "",
        gpus: int = 0,
        capability: tuple[int, int] = (8, 0),
        extra: tuple[str, ...] = (),
        config: str = "iwslt14_de_en_rdrop",
        data: Path = tiny_data,
    ):
        found = hardware.Hardware(gpus, capability)
        monkeypatch.setattr(hardware, "detect", lambda cpu=False: hardware.Hardware(0) if cpu else found)
        args = launch.argument_parser("train").parse_args([config, str(data), *words.split()])
        return launch.prepare(args, list(extra))

    return make


def run_script(
    name: object, *words: object, stdin: str | None = None, cwd: Path = ROOT, **env: str
) -> subprocess.CompletedProcess[str]:
    """A script of scripts/ (or another program, by its path) under this Python, one thread, no GPU."""
    whole = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **env}
    command = [str(ROOT / "scripts" / str(name)), *map(str, words)]
    return subprocess.run(
        command, input=stdin, cwd=cwd, env=whole, capture_output=True, text=True, encoding="utf-8", timeout=600
    )


def succeed(name: object, *words: object, **options: Any) -> str:
    """`run_script`, which must succeed; what it prints."""
    done = run_script(name, *words, **options)
    assert done.returncode == 0, f"{name}: {done.stdout[-3000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def becoming(save: Path, command: str) -> list[str]:
    """The words of a Python that becomes a shell with this command, as the launcher becomes a training in `save`."""
    return [sys.executable, "-c", BECOME, str(save), command]


BECOME = """
import sys
words, sys.argv = sys.argv[1:], ["-m"]  # as under `python -m`: the package does not import fairseq
from argparse import Namespace
from pathlib import Path
from rdrop_fairseq.training.run import Run
save = Path(words[0])
seen = Namespace(max_tokens=1, batch_size=None, update_freq=[1], data=None)
run = Run(["/bin/sh", "-c", words[1]], save, save / "train.log", seen, "a job")
with run.claim() as lock:
    run.become(lock)
"""


@pytest.fixture(scope="session")
def warm_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Python that has torch, fairseq and the plugin imported already (see warm_python.py)."""
    with start(tmp_path_factory.mktemp("warm")) as path:
        yield path


@pytest.fixture(scope="module")
def warm(warm_python: Path) -> Iterator[None]:
    """sys.executable is that Python while a module's tests run: what they start needs no seconds to import things."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(warm_python))
        yield
