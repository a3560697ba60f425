"""The command on scikit-learn's digits: learning, resuming, two processes, no fairseq, bad input."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rdrop_fairseq.__main__ import main
from rdrop_fairseq.vision import data, models, run
from rdrop_fairseq.vision.options import Options, read_words
from rdrop_fairseq.vision.workers import Workers

ROOT = Path(__file__).parents[2]
TINY = ["--model-args", '{"patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2}', "--train-images", "110"]
SHORT = [*TINY, "--updates", "8", "--warmup-updates", "2", "--eval-every", "4"]


def vision(*words: object) -> int:
    return main(["vision", *map(str, words), "--root", str(ROOT)])


def options(*words: str) -> Options:
    return run.parse(["digits_rdrop", *words, "--root", str(ROOT)], "vision")[0]


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return torch.load(directory / "last.pt", weights_only=True)["model"]


def curve(directory: Path) -> list[dict[str, str]]:
    with open(directory / "curve.csv", encoding="utf-8") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def test_it_learns_and_an_interruption_changes_nothing(tmp_path: Path, capsys, monkeypatch) -> None:
    """110 images in batches of 100: every second update has 10."""
    whole, parts = tmp_path / "whole", tmp_path / "in parts"
    assert vision("digits_rdrop", *SHORT, "--save-dir", whole) == 0
    assert "test accuracy" in capsys.readouterr().out
    result = json.loads((whole / "result.json").read_text(encoding="utf-8"))
    assert result["best_valid_accuracy"] == max(float(row["valid_accuracy"]) for row in curve(whole))
    assert (whole / "curve.png").is_file()
    assert float(curve(whole)[-1]["train_nll"]) < float(curve(whole)[0]["train_nll"])
    assert float(curve(whole)[-1]["train_kl"]) > 0

    update = run.Trainer.update

    def killed(self, done, pieces, images):
        if done == 6:
            raise KeyboardInterrupt
        update(self, done, pieces, images)

    monkeypatch.setattr(run.Trainer, "update", killed)
    with pytest.raises(KeyboardInterrupt):
        vision("digits_rdrop", *SHORT, "--save-dir", parts)
    monkeypatch.setattr(run.Trainer, "update", update)
    assert [row["update"] for row in curve(parts)] == ["4"]
    assert vision("digits_rdrop", *SHORT, "--save-dir", parts) == 0
    assert curve(parts) == curve(whole)
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(parts).items())

    assert vision("digits_rdrop", *SHORT, "--lr", "1", "--save-dir", parts) == 1
    assert "holds a training with another lr" in capsys.readouterr().err
    (parts / "last.pt").write_bytes((parts / "last.pt").read_bytes()[:1000])
    assert vision("digits_rdrop", *SHORT, "--save-dir", parts) == 1
    assert "remove it to start anew" in capsys.readouterr().err


def test_two_processes_are_one_and_need_no_fairseq(tmp_path: Path) -> None:
    """Without dropout, plain: the same update on one process and on two, the last batch of 7 images unevenly shared."""
    (tmp_path / "fairseq").mkdir()
    (tmp_path / "fairseq" / "__init__.py").write_text("raise SystemExit('fairseq was imported')", encoding="utf-8")
    words = [*SHORT, "--train-images", "107", "--dropout", "0", "--optimizer", "sgd", "--micro-batch", "30"]
    assert vision("digits_baseline", *words, "--save-dir", tmp_path / "1") == 0
    command = [ROOT / "scripts" / "train_vit.sh", "digits_baseline", *words, "--processes", 2]
    command += ["--save-dir", tmp_path / "2"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([str(word) for word in command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 x cpu in fp32" in done.stderr
    one, two = weights(tmp_path / "1"), weights(tmp_path / "2")
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-4, atol=1e-6)
    for first, second in zip(curve(tmp_path / "1"), curve(tmp_path / "2")):
        for name in ("train_nll", "train_accuracy", "valid_nll", "valid_accuracy"):
            assert float(first[name]) == pytest.approx(float(second[name]), rel=1e-5)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["digits_rdrop", "--classes", "12"], "have 10 classes, the head 12"),
        (["digits_rdrop", "--classes", "9"], "have labels 0 to 9, outside 0 to 8"),
        (["digits_rdrop", "--model", "vit_tiny_patch16_42"], "has no model 'vit_tiny_patch16_42'; near it are vit_"),
        (["digits_rdrop", "--model-args", '{"depht": 2}'], "cannot be built with these options"),
        (["digits_rdrop", "--model-args", "depth"], "model-args must be a JSON object"),
        (["digits_rdrop", "--image-size", "9"], "give --image-size 8"),
        (["digits_rdrop", "--train-images", "2000"], "there are 1000 training images, fewer than"),
        (["digits_rdrop", "--dropout", "0"], "R-Drop needs dropout above 0"),
        (["digits_rdrop", "--init", "nowhere.npz"], "there is no file nowhere.npz"),
        (["digits_rdrop", "--warmup-updates", "600"], "warmup-updates 600 must be less than updates 600"),
        (["digits_rdrop", "--precision", "fp16"], "a CPU does not train in fp16"),
        (["no_such"], "configs/vit has DATASET_MODEL_SYSTEM.yaml, digits_SYSTEM.yaml"),
        (["cifar100_b16_rdrop", "--dataset", "imagefolder", "--data", "nowhere"], "must hold a folder of images"),
    ],
)
def test_bad_input_in_one_sentence(words: list[str], told: str, tmp_path: Path, capsys) -> None:
    assert vision(*words, "--save-dir", tmp_path / "run") == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert told in lines[-1]


def test_unreadable_weights_and_those_of_another_model(tmp_path: Path, capsys) -> None:
    (tmp_path / "text.pt").write_text("no weights", encoding="utf-8")
    torch.save({"model": {"head.weight": torch.zeros(10, 16)}}, tmp_path / "head.pt")
    for name in ("text.pt", "head.pt"):
        assert vision("digits_rdrop", *TINY, "--init", tmp_path / name, "--save-dir", tmp_path / "run") == 1
        assert f"{name} cannot be loaded into vit_tiny_patch16_224" in capsys.readouterr().err


def test_weights_of_a_file_are_resized_and_get_a_head_of_zeros(tmp_path: Path) -> None:
    small = models.build(options(*TINY), 1)
    torch.save({"model": small.state_dict()}, tmp_path / "small.pt")
    large = models.build(options(*TINY, "--image-size", "16", "--classes", "7", "--init", f"{tmp_path}/small.pt"), 1)
    assert large.pos_embed.shape == (1, 17, 16)
    assert torch.equal(large.blocks[0].attn.qkv.weight, small.blocks[0].attn.qkv.weight)
    assert large.head.weight.shape == (7, 16)
    assert not large.head.weight.any()
    large.train()
    dropout = re.compile(r"pos_drop|proj_drop|mlp.drop")
    assert [module.p for name, module in large.named_modules() if dropout.search(name)] == [0.1] * 4


def test_a_checkpoint_in_googles_layout(tmp_path: Path) -> None:
    """What ViT-B_16.npz looks like, for a model of depth 1: kernels are [in, out], attention is split over heads."""
    draw = np.random.default_rng(0)
    shapes = {
        "cls": (1, 1, 16), "embedding/kernel": (4, 4, 1, 16), "embedding/bias": (16,), "head/kernel": (16, 21),
        "head/bias": (21,), "Transformer/posembed_input/pos_embedding": (1, 5, 16),
        "Transformer/encoder_norm/scale": (16,), "Transformer/encoder_norm/bias": (16,),
    }  # fmt: skip
    block = "Transformer/encoderblock_0/"
    for number in (0, 2):
        shapes |= {f"{block}LayerNorm_{number}/{name}": (16,) for name in ("scale", "bias")}
    attention = f"{block}MultiHeadDotProductAttention_1/"
    for name in ("query", "key", "value"):
        shapes |= {f"{attention}{name}/kernel": (16, 2, 8), f"{attention}{name}/bias": (2, 8)}
    shapes |= {f"{attention}out/kernel": (2, 8, 16), f"{attention}out/bias": (16,)}
    for number, (inside, outside) in enumerate(((16, 64), (64, 16))):
        mlp = f"{block}MlpBlock_3/Dense_{number}/"
        shapes |= {f"{mlp}kernel": (inside, outside), f"{mlp}bias": (outside,)}
    arrays = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    np.savez(tmp_path / "ViT.npz", **arrays)
    model = models.build(options(*TINY, "--init", f"{tmp_path}/ViT.npz"), 1)
    keys = arrays[f"{attention}key/kernel"].reshape(16, 16)
    assert np.array_equal(model.blocks[0].attn.qkv.weight[16:32].detach().numpy(), keys.T)
    assert np.array_equal(model.pos_embed.detach().numpy(), arrays["Transformer/posembed_input/pos_embedding"])
    assert np.array_equal(model.blocks[0].mlp.fc2.bias.detach().numpy(), arrays[f"{block}MlpBlock_3/Dense_1/bias"])
    assert not model.head.weight.any()


def test_folders_of_images_and_their_augmentation(tmp_path: Path, capsys) -> None:
    """The paper's transforms on ImageNet's layout; a crop is the same on every pass over the same epoch."""
    for part, count in (("train", 6), ("val", 2)):
        for label in ("cat", "dog"):
            (tmp_path / part / label).mkdir(parents=True)
            for number in range(count):
                pixels = np.random.default_rng(number).integers(0, 256, (40, 30, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / label / f"{number}.png")
    splits = data.load(Options(dataset="imagefolder", classes=2, data=str(tmp_path), image_size=32, holdout=4))
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [8, 4, 4]
    state = torch.get_rng_state()
    first, again, later = (splits.train[key][0] for key in ((0, 3), (0, 3), (1, 3)))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert first.shape == (3, 32, 32)
    assert first.min() >= -1
    assert first.max() <= 1
    assert torch.equal(splits.valid[(0, 0)][0], splits.valid[(5, 0)][0])

    (tmp_path / "val" / "cow").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "val" / "cow" / "0.png")
    words = ["imagenet_b16_rdrop", "--data", tmp_path, "--save-dir", tmp_path / "run"]
    assert vision(*words) == 1
    assert "only one of them has cow" in capsys.readouterr().err

    (tmp_path / "val" / "cow" / "0.png").unlink()
    (tmp_path / "val" / "cow").rmdir()
    words += [*TINY[:2], "--train-images", 12, "--classes", 2, "--init", "random", "--image-size", 16, "--batch", 6]
    words += ["--updates", 2, "--warmup-updates", 1, "--workers", 1]
    assert vision(*words) == 0
    assert "test accuracy" in capsys.readouterr().out
    (tmp_path / "train" / "cat" / "0.png").write_bytes(b"no image")
    assert vision(*words, "--save-dir", tmp_path / "broken") == 1
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith(f"error: {tmp_path}/train/cat/0.png cannot be read as an image")


@pytest.mark.parametrize("dataset", ["cifar100", "imagenet"])
@pytest.mark.parametrize(("size", "depth", "width"), [("b16", 12, 768), ("l16", 24, 1024)])
def test_the_papers_configs(dataset: str, size: str, depth: int, width: int) -> None:
    found = {}
    for system in ("baseline", "rdrop"):
        name, words = read_words(f"{dataset}_{size}_{system}", ROOT)
        assert name == f"{dataset}_{size}_{system}"
        found[system], _ = run.parse([name, "--root", str(ROOT)], "vision")
        assert "--data=data/" + dataset in words
    plain, ours = (found[system].key() for system in ("baseline", "rdrop"))
    assert {name: value for name, value in ours.items() if value != plain[name]} == {"rdrop_alpha": 0.6}
    assert (ours["batch"], ours["image_size"], ours["clip_norm"], ours["weight_decay"]) == (512, 384, 1.0, 0.0)
    assert ours["updates"] == {"cifar100": 10000, "imagenet": 20000}[dataset]
    with torch.device("meta"):
        model = models.package("timm").create_model(ours["model"], img_size=384, num_classes=ours["classes"])
    assert (len(model.blocks), model.embed_dim) == (depth, width)
    assert model.pos_embed.shape[1] == 24 * 24 + 1
    assert Workers().first
