"""The measurements of the GPU check: parts of named groups, each of a few rows that are saved as they come."""

from __future__ import annotations

import functools
import gc
import importlib.metadata
import json
import platform
import statistics
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

import torch
from torch.utils import collect_env

from rdrop_fairseq import files
from rdrop_fairseq.benchmark import bare_loss, memory
from rdrop_fairseq.benchmark.command import torch_dtype
from rdrop_fairseq.benchmark.peak import peak_bytes
from rdrop_fairseq.benchmark.table import Row
from rdrop_fairseq.benchmark.timing import Work, attempt, compare, ran_out_of_memory, rounds
from rdrop_fairseq.benchmark.training_steps import (
    OUR_CRITERION,
    OURS,
    PEER,
    PLAIN,
    SENTENCE,
    SYSTEMS,
    TWICE,
    Rig,
    add_speed,
    systems,
    transformer,
    update,
)
from rdrop_fairseq.loss import choose, rdrop_weights

SHARED = "ours, shared encoder"
MEASURED = {
    PLAIN: SYSTEMS[PLAIN],
    PEER: SYSTEMS[PEER],
    OURS: SYSTEMS[OURS],
    SHARED: [*OUR_CRITERION, "--rdrop-forward", "shared-encoder"],
}
# A search for the largest batch ends when its bounds differ by this share.
CLOSE = 0.05


@dataclass(frozen=True)
class Model:
    """A model to train: options of fairseq-train, its vocabulary, tokens of its batches, the length of its texts."""

    name: str
    words: Sequence[str]
    classes: int
    tokens: Sequence[int]
    source: tuple[int, int] = SENTENCE
    target: tuple[int, int] = SENTENCE


@dataclass(frozen=True)
class Sizes:
    """Sizes of all measurements.

    shapes: (target tokens of one view, features, vocabulary) of the loss alone. most: tokens at which the search for
    the largest batch ends. copied: bytes of the copy. side: rows of the square matrices of the product.
    """

    shapes: Sequence[tuple[int, int, int]]
    models: Sequence[Model]
    most: int
    copied: int
    side: int
    rounds: int


BIG = ("--arch", "transformer_vaswani_wmt_en_de_big", "--dropout", "0.1")
BART = ("--arch", "bart_large", *memory.DROPOUT)
REAL = Sizes(
    shapes=((4096, 512, 10_000), (8192, 1024, 40_000), (2048, 1024, 50_264)),
    models=(
        Model("transformer_iwslt_de_en, V 10,000", ("--arch", "transformer_iwslt_de_en"), 10_000, (4096,)),
        Model("transformer_vaswani_wmt_en_de_big, V 40,000", BIG, 40_000, (4096, 8192)),
        Model("BART-large, 1,024 to 80 tokens", BART, memory.CLASSES, (2048,), (1024, 1024), (80, 80)),
        Model("BART-large, 128 to 128 tokens", BART, memory.CLASSES, (2048,), (128, 128), (128, 128)),
    ),
    most=1 << 17,
    copied=1 << 30,
    side=8192,
    rounds=10,
)
TINY_BART = ("--arch", "bart_base", *transformer(1, 1, 16, 16)[2:])
TINY = Sizes(
    shapes=((64, 16, 1000), (32, 16, 100)),
    models=(
        Model("tiny Transformer", transformer(1, 1, 16, 16), 200, (100, 200)),
        Model("tiny BART", TINY_BART, 200, (100,), (50, 50), (20, 20)),
    ),
    most=400,
    copied=1 << 20,
    side=64,
    rounds=2,
)


def halves(device: str) -> tuple[str, ...]:
    """The half precisions of a device, the one to prefer last: GPUs before compute capability 8.0 have no bf16."""
    if device == "cpu":
        return ("bf16",)
    return ("fp16", "bf16") if torch.cuda.get_device_capability() >= (8, 0) else ("fp16",)


class Part:
    """One part on one device: `groups` of measurements in order of importance."""

    def __init__(self, device: str, tiny: bool, until: float = float("inf")) -> None:
        """until: the time, as of time.time(), at which the part has to end."""
        self.device, self.sizes = device, TINY if tiny else REAL
        self.clock = "cuda" if device == "cuda" else "wall"
        self.dtypes = halves(device)
        self.half = self.dtypes[-1]
        self.until = until
        self._rig: tuple[object, Optional[Rig]] = (None, None)

    def groups(self, part: str) -> dict[str, Callable[[], Iterator[Row]]]:
        """Name -> generator of rows, for each group."""
        if part == "machine":
            return {"machine": self.machine, "ceilings": self.ceilings}
        if part == "loss":
            return {
                f"{tokens} x 2, d {width}, V {classes:,}": functools.partial(self.loss, tokens, width, classes)
                for tokens, width, classes in self.sizes.shapes
            }
        found: dict[str, Callable[[], Iterator[Row]]] = {}
        for dtype in self.dtypes:
            for model in self.sizes.models:
                trained = f"{model.name}, {dtype}"
                if part == "steps":
                    found[trained] = functools.partial(self.steps, model, dtype)
                else:
                    found |= {
                        f"{trained}, {name}": functools.partial(self.largest, model, dtype, name) for name in MEASURED
                    }
        return found

    def rig(self, model: Model, dtype: str) -> Rig:
        """The model with its trainer; the previous one is freed."""
        key = (tuple(model.words), dtype)
        if self._rig[0] != key:
            self._rig = (None, None)
            free(self.device)
            self._rig = (key, Rig(model.words, model.classes, self.device, dtype))
        assert self._rig[1] is not None
        return self._rig[1]

    def machine(self) -> Iterator[Row]:
        """One row on the machine and its software."""
        row: Row = {"device": platform.processor() or platform.machine(), "driver": None}
        if self.device == "cuda":
            device = torch.cuda.get_device_properties(torch.cuda.current_device())
            row = {"device": device.name, "GB": round(device.total_memory / 1e9)}
            row["driver"] = collect_env.get_nvidia_driver_version(collect_env.run)
            row["compute capability"] = f"{device.major}.{device.minor}"
        row |= {"python": platform.python_version(), "torch": torch.__version__, "CUDA": torch.version.cuda}
        row |= {"triton": _version("triton", "pytorch-triton"), "fairseq": _version("fairseq", "ve-fairseq")}
        row["Adam"] = _adam()
        print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        yield row

    def ceilings(self) -> Iterator[Row]:
        """The device's best rates, from a large copy and a large product."""
        source = torch.randn(self.sizes.copied // 4, device=self.device)
        into = torch.empty_like(source)
        a, b = (torch.randn(self.sizes.side, self.sizes.side, device=self.device) for _ in range(2))
        a, b = (x.to(torch_dtype(self.half)) for x in (a, b))
        works: dict[str, Work] = {"copy": lambda: into.copy_(source), "product": lambda: a @ b}
        seconds, _ = rounds(works, self.sizes.rounds, "ceilings", self.clock)
        copy, product = (statistics.median(seconds[name]) for name in works)
        yield {"ceiling": "copy, bytes read and written", "GB/s": 2 * self.sizes.copied / copy / 1e9}
        yield {"ceiling": f"{self.half} product of square matrices", "TFLOP/s": 2 * self.sizes.side**3 / product / 1e12}

    def loss(self, tokens: int, width: int, classes: int) -> Iterator[Row]:
        """Loss and projection in half precision."""
        dtype = torch_dtype(self.half)
        weights = rdrop_weights(bare_loss.ALPHA)
        problem = bare_loss.make_problem(weights, tokens, width, classes, self.device, dtype)
        for row in bare_loss.measure(problem, 2 * self.sizes.rounds, self.clock):
            if row["loss and projection"] == bare_loss.OURS and self.device == "cuda":
                used = choose.works(problem.features.device, dtype, 2)
                row["loss and projection"] = f"{bare_loss.OURS}, by {'Triton' if used else 'torch'}"
            yield {"shape": f"{tokens} x 2, d {width}, V {classes:,}", "precision": self.half, **row}

    def steps(self, model: Model, dtype: str) -> Iterator[Row]:
        """Training steps of every system on one model."""
        rig = self.rig(model, dtype)
        for tokens in model.tokens:
            batch = rig.batch(tokens, model.source, model.target)
            works = systems(rig, MEASURED, batch)
            works[TWICE] = update(rig, rig.criterion(SYSTEMS[PLAIN]), batch, batch)
            settle(rig, works[PLAIN])
            beside = {"of two plain": TWICE, "of fairseq's": PEER}
            rows = compare("training step", works, self.sizes.rounds, self.clock, beside)
            add_speed(rows, batch["ntokens"], MEASURED)
            for row in rows:
                name = str(row["training step"])
                if row["noise"] is not None:
                    row["peak MB"] = (self.in_use() + peak_bytes(works[name], self.device)) / 1e6
                yield {"model": model.name, "tokens": tokens, "precision": dtype, **row}

    def largest(self, model: Model, dtype: str, name: str) -> Iterator[Row]:
        """The largest batch of a system that fits, in tokens per side, or the bounds reached when time is over."""
        rig = self.rig(model, dtype)
        criterion = rig.criterion(MEASURED[name])

        def fits(tokens: int) -> bool:
            free(self.device)
            batch = rig.batch(tokens, model.source, model.target)
            return not attempt(functools.partial(rig.step, criterion, batch))

        good, bad = largest_that_fits(fits, model.tokens[0], self.sizes.most, lambda: time.time() > self.until)
        yield {"model": model.name, "precision": dtype, "training step": name, "fits": good, "does not": bad}

    def in_use(self) -> int:
        """Bytes of the existing tensors on a GPU; 0 on a CPU, where they are not counted."""
        return torch.cuda.memory_allocated() if self.device == "cuda" else 0


def free(device: str) -> None:
    """Frees unreferenced memory."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def settle(rig: Rig, run: Work) -> None:
    """Runs updates until two are counted: in fp16 the first ones may overflow. The trainer frees memory after each."""
    for _ in range(12):
        if rig.trainer.get_num_updates() >= 2 or attempt(run):
            return


def largest_that_fits(
    fits: Callable[[int], bool], start: int, most: int, over: Callable[[], bool]
) -> tuple[int, Optional[int]]:
    """(largest size found to fit, or 0; smallest found not to, or None): doubles from `start`, then bisects.

    Ends when they are within CLOSE of each other, when twice the size exceeds `most`, or when `over` returns True.
    """
    good, bad = (start, None) if fits(start) else (0, start)
    while good and not over():
        if bad is None:
            size = 2 * good
            if size > most:
                break
        elif bad - good <= CLOSE * good:
            break
        else:
            size = (good + bad) // 2
        if fits(size):
            good = size
        else:
            bad = size
    return good, bad


def run(part: str, device: str, tiny: bool, until: float, out: Path) -> None:
    """Measures the groups of one part until the time `until`, and writes `out` after each row.

    A group starts only if the longest one so far would still end in time. A failure is recorded, and the next group
    starts.
    """
    groups = Part(device, tiny, until).groups(part)
    found: dict[str, list[Any]] = {"rows": [], "pending": list(groups), "faults": []}
    longest = 0.0
    for name, measure in groups.items():
        begun = time.time()
        if begun + longest > until:
            break
        print(f"{part}: {name}", flush=True)
        fault = attempt(functools.partial(_measure, name, measure, found, out))
        if fault:
            found["rows"].append({"group": name, "result": fault})
        if name in found["pending"]:
            found["pending"].remove(name)
        _save(out, found)
        free(device)
        longest = max(longest, time.time() - begun)


def _measure(name: str, measure: Callable[[], Iterator[Row]], found: dict[str, list[Any]], out: Path) -> None:
    try:
        _save(out, found)
        for row in measure():
            found["rows"].append(row)
            _save(out, found)
    except ImportError as error:  # a missing package is not a failure
        found["pending"][found["pending"].index(name)] = f"{name} ({error})"
    except Exception as error:
        if ran_out_of_memory(error):
            raise
        traceback.print_exc()
        found["faults"].append(f"{name}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}")


def _save(path: Path, found: Mapping[str, Any]) -> None:
    with files.atomic(path, "w") as file:
        json.dump(found, file, indent=1)


def _version(*names: str) -> str:
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "not installed"


def _adam() -> str:
    try:
        from fairseq.optim.fused_adam import get_fused_adam_class
    except ImportError:
        return "none"
    return "apex's" if get_fused_adam_class() is not None else "fairseq's own"
