"""The doctor on a machine where all is well, and with one thing broken at a time."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rdrop_fairseq.__main__ import main
from rdrop_fairseq.checks import benchmarks, doctor, images
from rdrop_fairseq.corpus import download, pipeline
from rdrop_fairseq.training import config, hardware
from rdrop_fairseq.vision.packages import package

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))
import small_corpora  # noqa: E402  (importmode=importlib puts no folder on the path)
import tiny_bart  # noqa: E402
from flaky_server import Site, serving  # noqa: E402

pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data with IWSLT14 De-En prepared from a miniature archive."""
    folder = tmp_path_factory.mktemp("doctor")
    small_corpora.iwslt_archive(folder / "mirror", count=60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATA_MIRROR", str(folder / "mirror"))
        words = ["--data", str(folder / "data"), "--bpe-operations", "60", "--workers", "1"]
        assert main(["prepare", "iwslt", *words]) == 0
    return folder / "data"


def ask(capsys: pytest.CaptureFixture[str], data: Path, *names: str) -> tuple[int, list[str], list[str]]:
    """Status, the lines that are ok, and those to fix."""
    capsys.readouterr()
    status = main(["doctor", *names, "--data", str(data), "--root", str(ROOT)])
    lines = capsys.readouterr().out.splitlines()
    return status, [line for line in lines if line.startswith("ok ")], [line for line in lines if line[:3] == "FIX"]


def test_all_is_well_then_one_thing_after_another_is_not(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    shutil.copytree(prepared, data)
    status, fine, wrong = ask(capsys, data, "iwslt14")
    assert (status, wrong) == (0, [])
    assert [line.split()[1].strip(":") for line in fine[:3]] == ["torch", "fairseq", "rdrop_fairseq"]
    assert any("iwslt14.de-en is whole" in line for line in fine)
    assert any("iwslt14_de_en_rdrop is accepted by fairseq-train" in line for line in fine)

    dictionary = data / "iwslt14.de-en" / "bin" / "dict.de.txt"
    dictionary.write_text("cut short", encoding="utf-8")
    status, _, wrong = ask(capsys, data, "iwslt14")
    assert status == 1
    (told,) = [line for line in wrong if "data:" in line]
    assert "bin in" in told
    assert told.endswith("not as the manifest has it: run scripts/prepare_iwslt14.sh again")

    (data / "iwslt14.de-en" / "manifest.json").write_text("{", encoding="utf-8")
    assert any("is not readable as JSON" in line for line in ask(capsys, data, "iwslt14")[2])
    shutil.rmtree(data)

    usage = shutil.disk_usage(tmp_path)._replace(free=10**8)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    monkeypatch.setenv("DATA_MIRROR", str(prepared.parent / "mirror"))
    status, _, wrong = ask(capsys, data, "iwslt14")
    assert status == 1
    assert len(wrong) == 1
    assert wrong[0].endswith("about 1 are needed: give --data on a larger disk, or make room")


def test_addresses_that_answer_and_that_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("find_modules", "find_devices"):
        monkeypatch.setattr(doctor, module, lambda: iter(()))
    with serving(Site(files={"fairseq/data/iwslt14/de-en.tgz": b"x" * 99})) as site:
        monkeypatch.setenv("DATA_MIRROR", site.url)
        assert ask(capsys, tmp_path, "iwslt14")[0] == 0
        site.files.clear()
        status, _, (wrong,) = ask(capsys, tmp_path, "iwslt14")
        assert status == 1
        assert "de-en.tgz: HTTP 404" in wrong
        assert f"put the file at {tmp_path}/downloads/iwslt14/de-en.tgz, or set DATA_MIRROR" in wrong
    _, _, (wrong,) = ask(capsys, tmp_path, "iwslt14")  # the server has gone
    assert "no answer (" in wrong
    place = tmp_path / "downloads" / "iwslt14" / "de-en.tgz"
    place.parent.mkdir(parents=True)
    place.touch()
    assert ask(capsys, tmp_path, "iwslt14")[0] == 0


def test_installation_and_devices(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "fairseq", None)  # as if it were not installed
        status, _, wrong = ask(capsys, Path())
        assert status == 1
        assert "fairseq: does not import (ModuleNotFoundError" in wrong[0]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    cards: list[dict[str, Any]] = [
        {"name": "V100", "capability": [7, 0], "failed": {"bf16": "too old"}},
        {"name": "V100", "capability": [7, 0], "failed": {"fp16": "no kernel image", "bf16": "too old"}},
    ]
    monkeypatch.setattr(hardware, "probe", lambda gpus: cards)
    status, fine, wrong = ask(capsys, Path())
    assert status == 1
    assert any(line.endswith("GPU 0, V100: computes in fp32, fp16") for line in fine)
    assert any("without apex" in line for line in fine)
    assert len(wrong) == 1
    assert wrong[0].startswith("FIX  GPU 1, V100: fp16: no kernel image: install another build of torch")


@pytest.mark.parametrize(("gpus", "said"), [(0, "4096 tokens x 1 device x"), (4, "1024 tokens x 4 devices x")])
def test_a_batch_that_divides_over_the_devices(gpus: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    [(_, wrong, fine)] = doctor.find_config(benchmarks.BENCHMARKS["iwslt14"], Path("data"), ROOT)
    assert not wrong
    assert said in fine
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)  # `train` would stop at once
    [(_, wrong, _)] = doctor.find_config(benchmarks.BENCHMARKS["iwslt14"], Path("data"), ROOT)
    assert "do not divide over 8 devices of 4096 tokens: let CUDA_VISIBLE_DEVICES show 1 or 2 or 4 of them" in wrong


def test_a_model_that_does_not_fit_the_dictionary(gpt2_files: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for side in ("source", "target"):
        shutil.copy(gpt2_files / "dict.txt", gpt2_files / f"dict.{side}.txt")
        shutil.copy(gpt2_files / "dict.txt", folder / f"dict.{side}.txt")
    model = tmp_path / "bart" / "model.pt"
    assert "not both there yet" in doctor.find_model(model, folder, "scripts/prepare_cnndm.sh")[2]
    model.parent.mkdir()
    tiny_bart.publish(tiny_bart.task_and_model(gpt2_files)[1], model)
    assert doctor.find_model(model, folder, "")[1] == ""
    (folder / "dict.source.txt").write_text("1 1\n2 1\n", encoding="utf-8")
    assert "embeddings and the dictionary of the data has 6 entries" in doctor.find_model(model, folder, "")[1]


def test_the_table_agrees_with_the_configs() -> None:
    """The data that the doctor looks at are those of the config, made by the script that the config names."""
    for name, benchmark in benchmarks.BENCHMARKS.items():
        experiment = config.read_config(config.find_config(benchmark.config, ROOT), benchmark.config)
        assert experiment.own["data"] == f"data/{benchmark.folder}/{benchmark.binarized}", name
        assert experiment.own["prepare"].startswith(benchmark.prepare), name
        models = [entry.value for entry in experiment.options if entry.key == "finetune-from-model"]
        assert models == ([f"data/{benchmark.model}/model.pt"] if benchmark.model else []), name


def test_a_preparation_of_glue_fetches_the_files_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them but the model, to the same places."""
    fetched = set()

    def fetch(self: Any, urls: list[str], destination: Path, *_: Any) -> Path:
        fetched.add((tuple(urls), destination))
        destination.parent.mkdir(parents=True, exist_ok=True)
        destination.touch()  # MRPC's list of dev pairs is read before its step
        return destination

    monkeypatch.setattr(pipeline.Pipeline, "download", fetch)
    monkeypatch.setattr(pipeline.Pipeline, "step", lambda *_: {"sentences": 1})
    monkeypatch.setattr(pipeline.Pipeline, "finish", lambda *_: None)
    main(["prepare", "glue", "--data", str(tmp_path), "--no-model"])
    table = {(urls, tmp_path / path) for urls, path in benchmarks.BENCHMARKS["glue"].files if "models" not in path}
    assert fetched == table


@pytest.mark.parametrize("name", ["wmt14_en_de", "wmt14_en_fr"])
def test_a_preparation_begins_with_a_file_of_the_table(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first file that `prepare wmt14` fetches: its addresses, and where it is put."""
    fetched: list[tuple[tuple[str, ...], Path]] = []

    class StopError(Exception):
        pass

    def fetch(urls: list[str], destination: Path, *_: Any) -> None:
        fetched.append((tuple(urls), destination))
        raise StopError

    monkeypatch.setattr(download, "fetch", fetch)
    with pytest.raises(StopError):
        main(["prepare", "wmt14", name[-2:], "--data", str(tmp_path)])
    assert fetched[0] in [(urls, tmp_path / path) for urls, path in benchmarks.BENCHMARKS[name].files]


def test_a_vision_transformer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is there and nothing answers; then all is there, or answers."""
    for module in ("find_modules", "find_devices"):
        monkeypatch.setattr(doctor, module, lambda: iter(()))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(images, "CIFAR", "http://127.0.0.1:9/cifar-100-python.tar.gz")
    status, fine, wrong = ask(capsys, tmp_path, "cifar100", "imagenet")
    assert status == 1
    assert [line.split()[1:3] for line in fine[:2]] == [["cifar100:", "config:"], ["cifar100:", "disk:"]]
    assert "cifar-100-python.tar.gz does not answer" in wrong[0]
    assert "/timm/vit_base_patch16_224.orig_in21k/resolve/main/model.safetensors does not answer" in wrong[1]
    assert "imagenet has 0 and 0 classes, not 1000: train and val there must hold a folder" in wrong[2]

    for number in range(1000):
        for part in ("train", "val"):
            (tmp_path / "imagenet" / part / f"n{number}").mkdir(parents=True)
    monkeypatch.setattr(images, "unreachable", lambda url: "")
    status, fine, wrong = ask(capsys, tmp_path, "cifar100", "imagenet")
    assert (status, wrong) == (0, [])
    assert any(line.endswith("imagenet has 1000 classes") for line in fine)
    monkeypatch.undo()
    assert package("torchvision.datasets").CIFAR100.url == images.CIFAR


def test_the_disk_of_a_vision_transformer_has_room_for_a_new_checkpoint_beside_the_old_one() -> None:
    """L/16 on ImageNet in fp32: weights and momentum in last.pt, weights in best.pt, and a second last.pt until it is
    whole."""
    with torch.device("meta"):
        model = package("timm").create_model("vit_large_patch16_224", img_size=384, num_classes=1000)
    weights = 4 * sum(parameter.numel() for parameter in model.parameters())
    assert 2 * weights + weights + 2 * weights <= images.CHECKPOINTS * 1e9


def test_unknown_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "iwslt41"]) == 1
    assert "no benchmark iwslt41: choose from iwslt14, iwslt_en-fr, iwslt_fr-en" in capsys.readouterr().err


def test_a_preparations_help_says_the_disk_that_the_doctor_asks_for() -> None:
    for name, benchmark in benchmarks.BENCHMARKS.items():
        head = (ROOT / benchmark.prepare.split()[0]).read_text(encoding="utf-8").partition("source ")[0]
        assert f" {benchmark.gigabytes} GB" in head, name
