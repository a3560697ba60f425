"""The command on scikit-learn's digits: learning, resuming, two processes, no fairseq, bad input."""

from __future__ import annotations

import atexit
import csv
import hashlib
import inspect
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from rdrop_fairseq.__main__ import main
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.training import hardware
from rdrop_fairseq.vision import data, models, run
from rdrop_fairseq.vision.options import Options
from rdrop_fairseq.vision.packages import package
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


def test_it_learns_and_interruptions_change_nothing(tmp_path: Path, capsys, monkeypatch) -> None:
    """110 images in batches of 100: every second update has 10. Killed in update 7, asked to stop in update 6."""
    whole, parts = tmp_path / "whole", tmp_path / "in parts"
    torch.save(models.build(options(*TINY)).state_dict(), tmp_path / "published.pt")
    words = ["digits_rdrop", *SHORT, "--init", tmp_path / "published.pt"]
    assert vision(*words, "--save-dir", whole) == 0
    assert "test accuracy" in capsys.readouterr().out
    result = json.loads((whole / "result.json").read_text(encoding="utf-8"))
    assert result["best_valid_accuracy"] == max(float(row["valid_accuracy"]) for row in curve(whole))
    assert (whole / "curve.png").is_file()
    assert float(curve(whole)[-1]["train_nll"]) < float(curve(whole)[0]["train_nll"])
    assert float(curve(whole)[-1]["train_kl"]) > 0

    update = run.Trainer.update

    def interrupted(self, done, pieces, images):
        if done == 6 and not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            raise KeyboardInterrupt
        if done == 5 and (tmp_path / "killed").exists():
            os.kill(os.getpid(), signal.SIGUSR1)
        update(self, done, pieces, images)

    monkeypatch.setattr(run.Trainer, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        vision(*words, "--save-dir", parts)
    (tmp_path / "published.pt").unlink()  # the checkpoint has all weights
    assert vision(*words, "--save-dir", parts) == 0
    told = capsys.readouterr()
    assert "asked to stop: saved update 6, where the same command resumes" in told.err
    assert told.out == ""
    assert [row["update"] for row in curve(parts)] == ["4"]
    (parts / "stop").touch()  # only what this run is told stops it: a killed one may have left files
    # elsewhere, as after images were copied to the disk of another machine
    assert vision(*words, "--save-dir", parts, "--data", tmp_path / "elsewhere") == 0
    assert "resuming at 6" in capsys.readouterr().err
    assert curve(parts) == curve(whole)
    torch.testing.assert_close(weights(parts), weights(whole), rtol=0, atol=0)

    with monkeypatch.context() as patch:  # one of two workers, the other of which has found nothing
        for name in ("sum", "same", "wait"):
            patch.setattr(Workers, name, lambda self, values=None: values)
        with pytest.raises(UserError, match="is not one directory to all machines"):
            run.train(options(*map(str, words[1:]), "--save-dir", str(parts)), Workers(0, 2))
    assert vision(*words, "--lr", "1", "--save-dir", parts) == 1
    assert "holds a training with another lr" in capsys.readouterr().err
    (parts / "last.pt").write_bytes((parts / "last.pt").read_bytes()[:1000])
    assert vision(*words, "--save-dir", parts) == 1
    assert "remove it to start anew" in capsys.readouterr().err


def differ_by_rule(dropout: nn.Module, rows: torch.Tensor) -> torch.Tensor:
    """In place of dropout, whose random numbers cannot be the same for one process and two: half of the stack, which
    is the second view, is scaled."""
    first, second = rows.chunk(2)
    return torch.cat([first, 0.7 * second]) if dropout.training else rows


def ask_once() -> None:
    """The second process has the one that started it asked to stop, and alone sees the file that passes this on. At its
    exit, each prints the threads of its process group that are left: these now and then abort the process."""
    if "RANK" in os.environ:
        atexit.register(os.system, f"grep -h gloo /proc/{os.getpid()}/task/*/comm")
    if os.environ.get("RANK") == "1" and "ASKS" in os.environ:
        os.kill(os.getppid(), signal.SIGUSR1)
    if os.environ.get("RANK") == "0":
        del os.environ["RDROP_STOP_FILE"]


def test_two_processes_are_one_and_need_no_fairseq(tmp_path: Path, monkeypatch) -> None:
    """R-Drop's updates on one process and on two, the last batch of 7 images unevenly shared. The two are asked to stop
    before their first update, by a signal to the process that started them, and both do after it."""
    (tmp_path / "fairseq").mkdir()
    (tmp_path / "fairseq" / "__init__.py").write_text("raise SystemExit('fairseq was imported')", encoding="utf-8")
    rule = inspect.getsource(differ_by_rule)  # Python runs sitecustomize in every process that it starts
    patch = f"import torch\nfrom torch import nn\n\n{rule}\n\nnn.Dropout.forward = differ_by_rule\n"
    patch += f"import atexit, os, signal\n{inspect.getsource(ask_once)}\nask_once()\n"
    (tmp_path / "sitecustomize.py").write_text(patch, encoding="utf-8")
    monkeypatch.setattr(nn.Dropout, "forward", differ_by_rule)
    words = [*SHORT, "--train-images", "107", "--optimizer", "sgd", "--micro-batch", "30"]
    assert vision("digits_rdrop", *words, "--save-dir", tmp_path / "1") == 0
    command = [ROOT / "scripts" / "train_vit.sh", "digits_rdrop", *words, "--processes", 2]
    command += ["--save-dir", tmp_path / "2"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    for asks, told in (({"ASKS": "1"}, "stop: saved update 1,"), ({}, "2 x cpu in fp32, 8 updates, resuming at 1;")):
        done = subprocess.run(
            [str(word) for word in command], env=environment | asks, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert told in done.stderr
        assert "gloo" not in done.stdout
    torch.testing.assert_close(weights(tmp_path / "1"), weights(tmp_path / "2"), rtol=1e-4, atol=1e-6)
    for first, second in zip(curve(tmp_path / "1"), curve(tmp_path / "2")):
        for name in ("train_loss", "train_nll", "train_kl", "train_accuracy", "valid_nll", "valid_accuracy"):
            assert float(first[name]) == pytest.approx(float(second[name]), rel=1e-4)
        assert float(first["train_kl"]) > 1e-4


@pytest.mark.parametrize(("folders", "downloads"), [(("shared", "shared"), 1), (("one", "two"), 2)])
def test_each_folder_is_downloaded_into_once(folders, downloads: int, tmp_path: Path, monkeypatch) -> None:
    """Two machines of two workers, as threads."""
    barrier, begun = threading.Barrier(4, timeout=20), []
    monkeypatch.setattr(Workers, "wait", lambda self: barrier.wait())

    def work(rank: int) -> bool:
        image = tmp_path / folders[rank // 2]

        def download() -> bool:
            if not image.exists():
                begun.append(rank)
                time.sleep(0.1)  # in which another one would begin it, too
                image.touch()
            return True

        return Workers(rank, 4, local=rank % 2).in_turn(download)

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(work, range(4)))
    assert begun == [0, 2][:downloads]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["digits_rdrop", "--classes", "12"], "have 10 classes, labels 0 to 9; the head 12"),
        (["digits_rdrop", "--classes", "9"], "have 10 classes, labels 0 to 9; the head 9"),
        (["digits_rdrop", "--model", "vit_tiny_patch16_42"], "has no model 'vit_tiny_patch16_42'; near it are vit_"),
        (["digits_rdrop", "--model", "vit_tiny_patch16_224.x"], "has no model 'vit_tiny_patch16_224.x'; near it are"),
        (["digits_rdrop", "--lr", "0"], "lr must be at least 1e-12"),
        (["digits_rdrop", "--processes", "-1"], "--processes -1: this machine shows 0 GPU(s)"),
        (["digits_rdrop", "--model-args", '{"depht": 2}'], "cannot be built with --model-args {\"depht\": 2} and"),
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


def a_gpu_is_full(self, *_) -> None:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.25 GiB. GPU 0 has a total of 23.57 GiB.")


def killed_for_memory(self, _) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def no_room_to_hand_over(self, _) -> None:
    """What torch 2.13 raised in a container with 64 MB of /dev/shm."""
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_9_1_0>: No space left on device (28)")


@pytest.mark.parametrize(
    ("place", "fault", "told"),
    [
        ((run.Trainer, "update"), a_gpu_is_full, "full (CUDA out of memory): give a lower --micro-batch than 100,"),
        ((data.Images, "__getitem__"), killed_for_memory, "(DataLoader worker (pid"),
        ((data.Images, "__getitem__"), no_room_to_hand_over, "left on device (28)): give fewer --workers than 1, or 0"),
    ],
)
def test_too_little_memory_in_one_sentence(place, fault, told: str, tmp_path: Path, capfd, monkeypatch) -> None:
    monkeypatch.setattr(*place, fault)
    assert vision("digits_rdrop", *SHORT, "--workers", 1, "--save-dir", tmp_path) == 1
    lines = capfd.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert told in lines[-1]


def test_another_error_stays_what_it_is(tmp_path: Path, monkeypatch) -> None:
    def bug(*_) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(run.Trainer, "update", bug)
    with pytest.raises(RuntimeError, match="a bug"):
        vision("digits_rdrop", *SHORT, "--save-dir", tmp_path)


def test_unreadable_weights_and_those_of_another_model(tmp_path: Path, capsys) -> None:
    (tmp_path / "text.pt").write_text("no weights", encoding="utf-8")
    torch.save({"model": {"head.weight": torch.zeros(10, 16)}}, tmp_path / "head.pt")
    for name in ("text.pt", "head.pt"):
        assert vision("digits_rdrop", *TINY, "--init", tmp_path / name, "--save-dir", tmp_path / "run") == 1
        assert f"--init {tmp_path / name} (" in capsys.readouterr().err


def test_weights_of_a_file_are_resized_and_get_a_head_of_zeros(tmp_path: Path) -> None:
    small = models.build(options(*TINY))
    torch.save({"model": small.state_dict()}, tmp_path / "small.pt")
    large = models.build(options(*TINY, "--image-size", "16", "--classes", "7", "--init", f"{tmp_path}/small.pt"))
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
    model = models.build(options(*TINY, "--init", f"{tmp_path}/ViT.npz"))
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
    first, again, later = (splits.train[key][0] for key in (3, 3, 8 + 3))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert first.shape == (3, 32, 32)
    assert first.min() >= -1
    assert first.max() <= 1
    assert torch.equal(splits.valid[0][0], splits.valid[5 * 4][0])
    # a model that was trained on other pixels gets those: ImageNet's mean and standard deviation of red
    other = Options("imagefolder", 2, str(tmp_path), image_size=32, model="deit_tiny_patch16_224")
    red = (splits.test[0][0][0] * 0.5 + 0.5 - 0.485) / 0.229
    torch.testing.assert_close(data.load(other).test[0][0][0], red)

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


def test_cifar100_from_its_archive_put_there_by_hand(tmp_path: Path, capsys, monkeypatch) -> None:
    """A miniature of cifar-100-python.tar.gz; then a broken one, which torchvision fetches anew, from nowhere here."""
    contents: dict[str, dict] = {"meta": {"fine_label_names": [str(number) for number in range(100)]}}
    for name, count in (("train", 300), ("test", 100)):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 3072), dtype=np.uint8)
        contents[name] = {"data": pixels, "fine_labels": [number % 100 for number in range(count)]}
    folder, packed = tmp_path / "cifar-100-python", tmp_path / "cifar-100-python.tar.gz"
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
    shutil.make_archive(str(folder), "gztar", tmp_path, folder.name)
    published, sums = package("torchvision.datasets").CIFAR100, {}
    for path in (*folder.iterdir(), packed):
        sums[path.name] = hashlib.md5(path.read_bytes()).hexdigest()
    shutil.rmtree(folder)
    for part in ("train", "test"):
        monkeypatch.setattr(published, f"{part}_list", [[part, sums[part]]])
    monkeypatch.setattr(published, "meta", {**published.meta, "md5": sums["meta"]})
    monkeypatch.setattr(published, "tgz_md5", sums[packed.name])
    monkeypatch.setattr(published, "url", "http://127.0.0.1:9/nowhere")
    splits = data.load(Options("cifar100", 100, str(tmp_path), image_size=32, holdout=50))
    assert [len(part) for part in splits] == [250, 50, 100]
    pixels, label = splits.test[7]
    assert np.allclose(pixels.flatten(), contents["test"]["data"][7] / 127.5 - 1, atol=1e-6)
    assert label == 7

    shutil.rmtree(folder)
    packed.write_bytes(b"cut short")
    assert vision("cifar100_b16_rdrop", "--data", tmp_path, "--save-dir", tmp_path / "run") == 1
    assert f"no images in {tmp_path}" in (told := capsys.readouterr().err)
    assert told.endswith("put cifar-100-python.tar.gz of https://www.cs.toronto.edu/~kriz/cifar.html there\n")


@pytest.mark.parametrize("dataset", ["cifar100", "imagenet"])
@pytest.mark.parametrize(("size", "depth", "width"), [("b16", 12, 768), ("l16", 24, 1024)])
def test_the_papers_configs(dataset: str, size: str, depth: int, width: int) -> None:
    found = {}
    for system in ("baseline", "rdrop"):
        name = f"{dataset}_{size}_{system}"
        found[system], _ = run.parse([name, "--root", str(ROOT)], "vision")
        assert found[system].save_dir == str(ROOT / "outputs" / "vit" / name)
        assert found[system].data == str(ROOT / "data" / dataset)
    plain, ours = (found[system].key() for system in ("baseline", "rdrop"))
    assert {name: value for name, value in ours.items() if value != plain[name]} == {"rdrop_alpha": 0.6}
    assert (ours["batch"], ours["image_size"], ours["clip_norm"], ours["weight_decay"]) == (512, 384, 1.0, 0.0)
    assert ours["updates"] == {"cifar100": 10000, "imagenet": 20000}[dataset]
    with torch.device("meta"):
        model = package("timm").create_model(ours["model"], img_size=384, num_classes=ours["classes"])
    assert (len(model.blocks), model.embed_dim) == (depth, width)
    assert model.pos_embed.shape[1] == 24 * 24 + 1


def test_a_gpu_that_torch_does_not_see_is_told(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(hardware, "listed_gpus", lambda: ["GPU 0"])
    assert vision("digits_rdrop", "--train-images", 2000, "--save-dir", tmp_path) == 1
    assert "warning: training on the CPU: nvidia-smi lists 1 GPU(s)" in capsys.readouterr().err
