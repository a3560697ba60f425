"""What a training leaves in its directory: last.pt to resume from, best.pt, curve.csv, curve.png, result.json."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, Optional

import torch

from rdrop_fairseq import files
from rdrop_fairseq.errors import UserError

LAST, BEST, CURVE, PLOT, RESULT = "last.pt", "best.pt", "curve.csv", "curve.png", "result.json"
COLUMNS = (
    "update", "epoch", "lr", "alpha", "train_loss", "train_nll", "train_kl", "train_accuracy", "valid_nll",
    "valid_accuracy", "seconds",
)  # fmt: skip


class Record:
    """The files of one training. history: a row of COLUMNS per validation."""

    def __init__(self, directory: Path, key: dict[str, Any]) -> None:
        self.directory, self.key = directory, key
        self.history: list[dict[str, Any]] = []

    def restore(self) -> Optional[dict[str, Any]]:
        """What `save` wrote last, or None. UserError if it is unreadable or of a training with other options."""
        path = self.directory / LAST
        if not path.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            known, self.history = json.loads(state["key"]), json.loads(state["history"])
        except Exception as error:  # cut short, another program's file, ...: torch and pickle raise many kinds
            reason = " ".join(str(error).split())[:120]
            raise UserError(f"{path} is no checkpoint of this command ({reason}): remove it to start anew") from error
        odd = [name for name, value in self.key.items() if known.get(name) != value]
        if odd:
            raise UserError(
                f"{self.directory} holds a training with another {', '.join(odd)}: remove it, or give --save-dir"
            )
        return state

    def save(self, update: int, state: dict[str, Any], row: dict[str, Any]) -> None:
        """One validation: checkpoint, the best weights if these are, and the curve; each file whole or as before."""
        best = max((known["valid_accuracy"] for known in self.history), default=-1.0)
        self.history.append(row)
        if row["valid_accuracy"] > best:
            with files.atomic(self.directory / BEST) as file:
                torch.save({"model": state["model"], "update": update}, file)
        whole = {**state, "update": update, "key": json.dumps(self.key), "history": json.dumps(self.history)}
        with files.atomic(self.directory / LAST) as file:
            torch.save(whole, file)
        with files.atomic(self.directory / CURVE, "w") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.history)

    def finish(self, result: dict[str, Any]) -> None:
        """The result, and a picture of the curve where matplotlib is installed."""
        with files.atomic(self.directory / RESULT, "w") as file:
            file.write(json.dumps(result, indent=1) + "\n")
        try:
            from matplotlib.figure import Figure
        except ImportError:  # the extra `plots`
            return
        figure = Figure(figsize=(8, 3.5), layout="constrained")
        for plot, what in zip(figure.subplots(1, 2), ("nll", "accuracy")):
            for name in (f"train_{what}", f"valid_{what}"):
                plot.plot([row["update"] for row in self.history], [row[name] for row in self.history], label=name)
            plot.set_xlabel("updates")
            plot.legend()
            plot.grid(alpha=0.3)
        with files.atomic(self.directory / PLOT) as file:
            figure.savefig(file, format="png", dpi=150)
