"""What a training leaves in its directory: last.pt to resume from, best.pt, curve.csv, curve.png, result.json."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any, Optional

import torch

from rdrop_fairseq import files
from rdrop_fairseq.errors import UserError

LAST, BEST, CURVE, PLOT, RESULT = "last.pt", "best.pt", "curve.csv", "curve.png", "result.json"


class Record:
    """The files of one training. history: a row per validation, on every worker; the first one writes."""

    def __init__(self, directory: Path, key: dict[str, Any]) -> None:
        self.directory, self.key, self.began = directory, key, time.monotonic()
        self.history: list[dict[str, Any]] = []

    def seconds(self) -> float:
        """Since the training began, without the time that it was interrupted."""
        return round(time.monotonic() - self.began, 1)

    def restore(self) -> Optional[dict[str, Any]]:
        """What `save` wrote last, or None. UserError if it is unreadable or of a training with other options."""
        path = self.directory / LAST
        if not path.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            known, self.history = json.loads(state["key"]), json.loads(state["history"])
            # older checkpoints, saved after validations only, lack it
            self.began -= state["seconds"] if "seconds" in state else self.history[-1]["seconds"]
        except Exception as error:  # cut short, another program's file, ...: torch and pickle raise many kinds
            reason = " ".join(str(error).split())[:120]
            raise UserError(f"{path} is no checkpoint of this command ({reason}): remove it to start anew") from error
        if odd := [name for name, value in self.key.items() if known.get(name) != value]:
            raise UserError(
                f"{self.directory} holds a training with another {', '.join(odd)}: remove it, or give --save-dir"
            )
        return state

    def best(self) -> dict[str, Any]:
        """The validation of highest accuracy, the first of several."""
        return max(self.history, key=lambda row: row["valid_accuracy"])

    def save(self, state: dict[str, Any]) -> None:
        """Checkpoint and curve, and the weights as the best ones if this update's validation was the best; each file
        whole or as before. state: `update`, `model`, and whatever else a restart needs."""
        if self.history and self.best()["update"] == state["update"]:
            self._write(BEST, {name: state[name] for name in ("model", "update")})
        known = {"key": json.dumps(self.key), "history": json.dumps(self.history)}
        self._write(LAST, {**state, **known, "seconds": self.seconds()})
        if self.history:
            with files.atomic(self.directory / CURVE, "w") as file:
                writer = csv.DictWriter(file, self.history[0], lineterminator="\n")
                writer.writeheader()
                writer.writerows(self.history)

    def _write(self, name: str, content: dict[str, Any]) -> None:
        with files.atomic(self.directory / name) as file:
            torch.save(content, file)

    def finish(self, result: dict[str, Any]) -> None:
        """The result, and a picture of the curve where matplotlib is installed (extra `plots`)."""
        with files.atomic(self.directory / RESULT, "w") as file:
            file.write(json.dumps(result, indent=1) + "\n")
        try:
            from matplotlib.figure import Figure
        except ImportError:
            return
        figure = Figure(figsize=(8, 3.5), layout="constrained")
        for plot, what in zip(figure.subplots(1, 2), ("nll", "accuracy")):
            for name in (f"train_{what}", f"valid_{what}"):
                plot.plot([row["update"] for row in self.history], [row[name] for row in self.history], label=name)
            plot.set_xlabel("updates")
            plot.legend()
        with files.atomic(self.directory / PLOT) as file:
            figure.savefig(file, format="png", dpi=150)
