"""300 of scikit-learn's digits, a Vision Transformer of two layers; the length is tuned, since a cosine ends it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from rdrop_fairseq.experiments.trials import CURVE, Experiment, Settings
from rdrop_fairseq.vision import run
from rdrop_fairseq.vision.packages import package
from rdrop_fairseq.vision.workers import Workers

MODEL = '{"patch_size": 2, "embed_dim": 32, "depth": 2, "num_heads": 2}'
COMMON = (
    *("--model-args", MODEL, "--batch", "50", "--micro-batch", "50", "--eval-every", "100"),
    *("--lr", "5e-3", "--warmup-updates", "20", "--train-images", "300"),
)
AXES: dict[str, tuple[str, ...]] = {
    "dropout": ("0.1", "0", "0.05", "0.2", "0.3"),
    "alpha": ("1", "0.1", "0.3", "3"),
    "updates": ("800", "1600", "2400", "3600", "5400"),
}


def train(system: str, settings: Settings, seed: int, folder: Path) -> Mapping[str, float]:
    """The last weights, on 300 images of valid and 497 of test."""
    words = [f"digits_{system}", *COMMON, "--dropout", settings["dropout"], "--updates", settings["updates"]]
    words += ["--rdrop-alpha", settings["alpha"]] if system == "rdrop" else []
    options, _ = run.parse([*words, "--seed", str(seed), "--save-dir", str(folder / "vit")], "experiment")
    run.train(options, Workers())
    shutil.copy(folder / "vit" / "curve.csv", folder / CURVE)
    found = json.loads((folder / "vit" / "result.json").read_text(encoding="utf-8"))
    names = ("valid_accuracy", "valid_nll", "test_accuracy", "test_nll")
    return {**{name: found[name] for name in names}, "updates": float(settings["updates"])}


def experiment(out: Path) -> Experiment:
    """The experiment, its packages imported."""
    package("timm")
    return Experiment("digits, ViT of 2 layers, 300 images", "accuracy", AXES, train, "images", str(COMMON))
