"""Importing the package: with fairseq, without it, by --user-dir, by hydra, next to other plugins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fairseq import checkpoint_utils
from fairseq.criterions import CRITERION_REGISTRY
from fairseq.tasks import TASK_REGISTRY
from tiny_fairseq import PLUGIN

# A finder that knows no fairseq, put in front of the real ones.
WITHOUT_FAIRSEQ = """
import importlib.machinery, sys
class Without(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] == "fairseq" else super().find_spec(name, path, target)
sys.meta_path[:] = [Without if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]
sys.path_importer_cache.clear()
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
"""
USE_THE_LOSS = """
import torch
from rdrop_fairseq.loss import rdrop_loss
loss, nll, kl = rdrop_loss(torch.zeros(4, 3, requires_grad=True), torch.tensor([0, 1]), alpha=5)
loss.backward()
print(round(nll.item(), 4), kl.item(), "fairseq" in sys.modules)
"""


def python(code, *arguments, cwd):
    """Run code in a fresh Python that finds this package in the folder it stands in."""
    return subprocess.run(
        [sys.executable, "-c", f"import sys\nsys.path.insert(0, {str(PLUGIN.parent)!r})\n{code}", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=cwd,
        check=False,
    )


def test_names_are_registered_and_each_file_is_named_after_its_name():
    for registry, folder in ((CRITERION_REGISTRY, "criterions"), (TASK_REGISTRY, "tasks")):
        ours = {name: cls for name, cls in registry.items() if cls.__module__.startswith("rdrop_fairseq.")}
        assert ours
        for name, cls in ours.items():
            assert cls.__module__ == f"rdrop_fairseq.{folder}.{name}"
    assert "label_smoothed_cross_entropy_rdrop" in CRITERION_REGISTRY
    assert "translation_rdrop" in TASK_REGISTRY


def test_without_fairseq_it_says_what_to_install_and_the_loss_works(tmp_path):
    done = python(WITHOUT_FAIRSEQ + USE_THE_LOSS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2.1972", "0.0", "False"]  # 2 ln 3
    said = done.stderr.strip().splitlines()
    assert len(said) == 1
    assert 'pip install "rdrop-fairseq[fairseq]"' in said[0]


WITHOUT_EXTRAS = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tiktoken", "rouge_score", "nltk", "matplotlib"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
from argparse import Namespace
from fairseq import utils
utils.import_user_module(Namespace(user_dir=sys.argv[1]))
from fairseq.tasks import TASK_REGISTRY
print("translation_rdrop" in TASK_REGISTRY)
"""


def test_translation_needs_no_extra(tmp_path):
    """--user-dir imports every module beside a task, those for summarization too."""
    done = python(WITHOUT_EXTRAS, PLUGIN, cwd=tmp_path)
    assert done.stdout.split() == ["True"], done.stderr


def test_the_text_tools_start_without_torch(tmp_path):
    """`python -m rdrop_fairseq` pays for neither torch nor fairseq."""
    code = (
        "import runpy\nsys.argv = ['-m']\nimport rdrop_fairseq\n"
        "print(any(name in sys.modules for name in ('torch', 'fairseq')))"
    )
    assert python(code, cwd=tmp_path).stdout == "False\n"


def test_hydra_train(corpus, tmp_path):
    """`fairseq-hydra-train` with the criterion's options as a configuration, loaded by common.user_dir."""
    folder, save = tmp_path / "config", tmp_path / "save"
    folder.mkdir()
    (folder / "rdrop.yaml").write_text(HYDRA.format(plugin=PLUGIN, data=corpus, save=save))
    done = subprocess.run(
        [sys.executable, "-m", "fairseq_cli.hydra_train", "--config-dir", folder, "--config-name", "rdrop"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        check=False,
    )
    said = done.stdout + done.stderr + "".join(path.read_text() for path in Path(tmp_path).rglob("*.log"))
    assert done.returncode == 0, said[-3000:]
    state = checkpoint_utils.load_checkpoint_to_cpu(str(save / "checkpoint_last.pt"))
    assert state["optimizer_history"][-1]["num_updates"] == 2
    assert state["cfg"]["criterion"]["rdrop_alpha"] == 3.5
    assert "rdrop_kl" in said


HYDRA = """
# @package _group_
common: {{user_dir: '{plugin}', cpu: true, log_format: json, log_interval: 1, no_progress_bar: true, seed: 1}}
checkpoint: {{save_dir: '{save}', no_epoch_checkpoints: true}}
task: {{_name: translation_rdrop, data: '{data}', source_lang: xx, target_lang: yy}}
dataset: {{batch_size: 8, num_workers: 0, disable_validation: true}}
criterion:
  _name: label_smoothed_cross_entropy_rdrop
  label_smoothing: 0.1
  rdrop_alpha: 3.5
  rdrop_impl: fused
  rdrop_start_updates: 1
optimization: {{max_update: 2, lr: [0.001]}}
optimizer: {{_name: adam, adam_betas: '(0.9, 0.98)'}}
lr_scheduler: {{_name: fixed}}
model:
  _name: transformer
  dropout: 0.3
  encoder: {{layers: 1, embed_dim: 16, ffn_embed_dim: 16, attention_heads: 2}}
  decoder: {{layers: 1, embed_dim: 16, ffn_embed_dim: 16, attention_heads: 2}}
"""
