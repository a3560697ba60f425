"""The experiment as one hydra YAML: the same values as the flat config, and it trains."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import yaml
from tiny_training import run_script

from rdrop_fairseq.training import options
from rdrop_fairseq.training.config import find_config, read_config

ROOT = Path(__file__).parents[2]
HYDRA = ROOT / "configs" / "hydra"
PLACES = {"data", "save_dir", "user_dir"}


def test_it_says_what_the_flat_config_says() -> None:
    """Key by key against what fairseq-train makes of the experiment iwslt14_de_en_rdrop."""
    experiment = read_config(find_config("iwslt14_de_en_rdrop", ROOT), "iwslt14_de_en_rdrop")
    _, flat = options.check(experiment, [], "nowhere")
    groups = yaml.safe_load((HYDRA / "iwslt14_de_en_rdrop.yaml").read_text(encoding="utf-8"))
    said = {}
    for name, group in groups.items():
        if name != "defaults":
            said.update({("arch" if name == "model" else name) if key == "_name" else key: value
                         for key, value in group.items()})
    assert said.pop("fp16") is True  # the launcher of the flat config decides that by the device
    assert said.pop("update_freq") == [1]  # and computes that
    assert {key for key in said if key in PLACES} == PLACES
    assert {key: value for key, value in said.items() if key not in PLACES} == {
        key: getattr(flat, key) for key in said if key not in PLACES
    }
    of_config = {entry.key.replace("-", "_") for entry in experiment.options}
    assert of_config <= set(said)


def test_it_trains(tiny_data: Path, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("fairseq-hydra-train")
    small = [f"+model.{side}_{what}" for side in ("encoder", "decoder")
             for what in ("layers=1", "attention_heads=2", "embed_dim=16", "ffn_embed_dim=16")]
    done = run_script(
        program, "--config-dir", HYDRA, "--config-name", "iwslt14_de_en_rdrop", f"task.data='{tiny_data}'",
        "common.fp16=false", f"checkpoint.save_dir={tmp_path}/save", f"hydra.run.dir={tmp_path}/run",
        "optimization.max_epoch=1", "dataset.num_workers=0", "checkpoint.no_epoch_checkpoints=true",
        "common.log_interval=1", "criterion.rdrop_alpha=3.5", "+criterion.rdrop_impl=fused", *small,
    )  # fmt: skip
    log = done.stdout + done.stderr
    assert done.returncode == 0, log
    assert "rdrop_alpha 3.5" in log
    assert "rdrop_kl" in log
    assert "valid on 'valid' subset" in log
    state = torch.load(tmp_path / "save" / "checkpoint_best.pt", weights_only=False)
    criterion = state["cfg"]["criterion"]
    assert (criterion["rdrop_alpha"], criterion["rdrop_impl"]) == (3.5, "fused")


@pytest.mark.parametrize("path", sorted(HYDRA.glob("*.yaml")), ids=lambda path: path.stem)
def test_its_launch_line_names_it(path: Path) -> None:
    head = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert f"fairseq-hydra-train --config-dir configs/hydra --config-name {path.stem} " in head
