"""Importing the package: with fairseq, without it, by --user-dir."""

from __future__ import annotations

import sys

from fairseq.criterions import CRITERION_REGISTRY
from fairseq.tasks import TASK_REGISTRY
from tiny_fairseq import PLUGIN
from tiny_training import run_script

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
    code = f"import sys\nsys.path.insert(0, {str(PLUGIN.parent)!r})\n{code}"
    return run_script(sys.executable, "-c", code, *arguments, cwd=cwd)


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
    assert 'pip install -c constraints.txt -e ".[fairseq]"' in said[0]


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
