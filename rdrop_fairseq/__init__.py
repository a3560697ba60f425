"""R-Drop for fairseq (Liang et al., NeurIPS 2021), loaded with `--user-dir rdrop_fairseq`.

The way of a batch, one direction; no stage knows the next:

    tasks/        translation_rdrop and its kin: tell the criterion the update number, then train as fairseq does
    criterions/   label_smoothed_cross_entropy_rdrop and its kin: which weights at this update, what is logged
    views/        a batch -> m views of it through the model, in one stacked forward where that is the same
    loss/         features or logits of m views -> loss, nll, kl; usable without fairseq

Around it: corpus/ (raw archives to binarized data), training/ (configs to fairseq-train), scoring/ (checkpoints to
numbers), summarizing/ (a checkpoint and articles to summaries), vision/ (Vision Transformers, without fairseq),
ablation/ (grids of trainings), experiments/ (does it help on small data), benchmark/ (time and memory), compat (a
released fairseq under today's torch), __main__ (the command line).
"""

from __future__ import annotations

import importlib.util
import logging
import sys

from rdrop_fairseq.errors import install

__version__ = "0.1.0"

NEEDS_FAIRSEQ = (
    "fairseq is not installed: rdrop_fairseq.loss and the text tools work, training does not; "
    f"install it with: {install('fairseq')}"
)


def register() -> None:
    """Make criterions and tasks known to fairseq, and checkpoints readable; needs fairseq, done once."""
    from rdrop_fairseq import compat

    compat.apply()
    for room in ("criterions", "tasks"):
        for name in importlib.import_module(f"rdrop_fairseq.{room}").NAMES:
            importlib.import_module(f"rdrop_fairseq.{room}.{name}")


# `python -m rdrop_fairseq` starts text filters that need neither torch nor fairseq (seconds to import): while Python
# looks for its __main__, sys.argv[0] is "-m". Commands that need the registrations import what they need.
if sys.argv[:1] != ["-m"]:
    if importlib.util.find_spec("fairseq") is None:
        logging.getLogger(__name__).warning(NEEDS_FAIRSEQ)
    else:
        register()
