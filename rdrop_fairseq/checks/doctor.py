"""`doctor [BENCHMARK]`: is everything there for a real run? One minute, no training; one line per question.

Each line is `ok`, or `FIX` and what to do. Without a benchmark only the installation and the devices are checked.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rdrop_fairseq.checks.benchmarks import BENCHMARKS, IMAGES, Benchmark, kept
from rdrop_fairseq.corpus import manifest, reachable
from rdrop_fairseq.errors import UserError

GIGABYTE = 1e9
NAMES = [*BENCHMARKS, *IMAGES]
# (subject, problem with its remedy, or empty; finding if there is no problem)
Finding = tuple[str, str, str]


def find_modules() -> Iterator[Finding]:
    """torch, fairseq and the plugin import."""
    for name in ("torch", "fairseq", "rdrop_fairseq"):
        try:
            module = importlib.import_module(name)
            if name == "rdrop_fairseq":
                module.register()
            yield name, "", str(getattr(module, "__version__", ""))
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            yield name, f"does not import ({reason}): pip install -c constraints.txt -e '.[fairseq]'", ""


def find_devices() -> Iterator[Finding]:
    """torch sees each GPU, which computes in each precision."""
    import torch

    from rdrop_fairseq.training import hardware

    count = torch.cuda.device_count()
    if not count:
        yield "devices", hardware.why_unseen(), "no GPU, the CPU trains (slowly, in fp32)"
        return
    listed = len(hardware.listed_gpus())
    hint = "" if listed <= count else f" (of {listed} that nvidia-smi lists: see CUDA_VISIBLE_DEVICES)"
    yield "devices", "", f"{count} GPU(s){hint}; torch {torch.__version__}"
    try:
        found = hardware.probe(count)
    except UserError as error:
        yield "CUDA", str(error), ""
        return
    for number, gpu in enumerate(found):
        failed = gpu["failed"]
        # bf16 is used on request only, and GPUs before Ampere lack it
        wrong = {name: reason for name, reason in failed.items() if name != "bf16" or gpu["capability"] >= [8, 0]}
        reasons = "; ".join(f"{name}: {reason}" for name, reason in wrong.items())
        works = ", ".join(name for name in hardware.PRECISIONS[1:] if name not in failed)
        problem = f"{reasons}: {hardware.other_builds()}" if reasons else ""
        yield f"GPU {number}, {gpu['name']}", problem, f"computes in {works}"
    yield _adam()


def _adam() -> Finding:
    """fairseq uses apex's fused Adam if that is installed; nothing else changes."""
    from fairseq.optim.fused_adam import get_fused_adam_class

    fused = get_fused_adam_class() is not None
    without = "fairseq's own, without apex: the same updates, somewhat slower; --fp16-adam-stats needs apex"
    return "Adam", "", "apex's fused Adam" if fused else without


def find_files(benchmark: Benchmark, data: Path) -> Iterator[Finding]:
    """Until the data are prepared: each file exists, or one of its addresses answers."""
    if is_prepared(benchmark, data):
        return
    missing = [file for file in benchmark.files if not kept(file, data).is_file()]
    if len(missing) < len(benchmark.files):
        yield "downloads", "", f"{len(benchmark.files) - len(missing)} of {len(benchmark.files)} files are there"
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda file: reachable.why_not(file[0]), missing))
    for file, problem in zip(missing, answers):
        place = kept(file, data)
        way_out = f"{problem}: put the file at {place}, or set DATA_MIRROR to a place that has it"
        yield place.name, way_out if problem else "", "can be fetched"


def find_room(benchmark: Benchmark, data: Path) -> Iterator[Finding]:
    """The free disk that the preparation needs, unless it is done."""
    folder = next(path for path in (data.absolute(), *data.absolute().parents) if path.exists())
    free = shutil.disk_usage(folder).free / GIGABYTE
    needed = 0 if is_prepared(benchmark, data) else benchmark.gigabytes
    short = f"{free:.0f} GB are free in {folder}, about {needed} are needed: give --data on a larger disk, or make room"
    yield "disk", short if free < needed else "", f"{free:.0f} GB free, about {needed} more needed for the data"


def is_prepared(benchmark: Benchmark, data: Path) -> bool:
    """Whether the manifest says that the preparation is complete."""
    return bool(manifest.load(data / benchmark.folder / "manifest.json").get("complete"))


def find_data(benchmark: Benchmark, data: Path) -> Iterator[Finding]:
    """The state of the preparation, and whether its files have the sizes in the manifest."""
    folder = data / benchmark.folder
    whole = manifest.load(folder / "manifest.json")
    if not whole.get("complete"):
        state = f"{len(whole['steps'])} steps of the preparation are done" if whole else "not prepared yet"
        yield "data", "", f"{state}: {benchmark.prepare}"
        return
    from rdrop_fairseq import files

    changed = [
        made["path"]
        for step in whole["steps"]
        for made in step["outputs"]
        if not (folder / made["path"]).exists() or files.size(folder / made["path"]) != made["size"]
    ]
    problem = f"{', '.join(changed[:3])} in {folder} not as the manifest has it: run {benchmark.prepare} again"
    yield "data", problem if changed else "", f"{folder} is whole"


def find_config(benchmark: Benchmark, data: Path, root: Path) -> Iterator[Finding]:
    """fairseq's parser accepts the config, its batch divides over the devices, and the published model fits the data's
    dictionary."""
    import torch

    from rdrop_fairseq.training import launch, options
    from rdrop_fairseq.training.config import find_config as find
    from rdrop_fairseq.training.config import read_config

    binarized = data / benchmark.folder / benchmark.binarized
    try:
        experiment = read_config(find(benchmark.config, root), benchmark.config)
        words, seen = options.check(experiment, [], str(binarized))
        batch = launch.settle_batch(words, [], seen, experiment, max(1, torch.cuda.device_count()))
    except UserError as error:
        yield "config", f"{benchmark.config}: {error}", ""
    else:
        yield "config", "", f"{benchmark.config} is accepted by fairseq-train; {batch or 'batch as given'}"
    if benchmark.model:
        yield find_model(data / benchmark.model / "model.pt", binarized, benchmark.prepare)


def find_model(model: Path, binarized: Path, prepare: str) -> Finding:
    """The published model exists and has the rows that the dictionary needs."""
    dictionaries = sorted([*binarized.glob("dict.source.txt"), *binarized.glob("input0/dict.txt")])
    if not model.is_file() or not dictionaries:
        return "model", "", f"{model} and the data's dictionary are not both there yet: {prepare}"
    from fairseq.data import Dictionary

    from rdrop_fairseq import checkpoint
    from rdrop_fairseq.tasks.parts import pretrained

    try:
        state: dict[str, Any] = checkpoint.load(model)["model"]
        if pretrained.EMBEDDING not in state:  # an encoder-only model: checked when training starts
            return "model", "", f"{model} can be read"
        pretrained.check_dictionary(model, state, Dictionary.load(str(dictionaries[0])))
    except UserError as error:
        return "model", str(error), ""
    return "model", "", f"{model} fits {dictionaries[0]}"


def find_images(name: str, data: Path, root: Path) -> Iterator[Finding]:
    """What a Vision Transformer needs, once torch imports."""
    from rdrop_fairseq.checks import images

    yield from images.find(name, data, root)


def examine(names: list[str], data: Path, root: Path) -> int:
    """Print every finding; returns the number of problems."""
    wrong = 0
    looks: list[tuple[str, Iterator[Finding]]] = [("", find_modules()), ("", find_devices())]
    for name in names:
        if name in IMAGES:
            looks.append((f"{name}: ", find_images(name, data, root)))
            continue
        chosen = BENCHMARKS[name]
        found = (find_files(chosen, data), find_room(chosen, data), find_data(chosen, data))
        looks += [(f"{name}: ", findings) for findings in (*found, find_config(chosen, data, root))]
    for prefix, look in looks:
        try:
            for subject, problem, fine in look:
                wrong += bool(problem)
                print(f"{'FIX' if problem else 'ok ':3}  {prefix}{subject}: {problem or fine}", flush=True)
        except (ImportError, UserError) as error:  # printed above, or a manifest that is not JSON
            wrong += 1
            print(f"FIX  {prefix}{error}", flush=True)
    return wrong


def main(argv: list[str], prog: str) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "benchmark", nargs="*", metavar="BENCHMARK", help=f"one or several of {', '.join(NAMES)}, or all"
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="where all data goes (default: data)")
    parser.add_argument("--root", type=Path, default=Path(), help=argparse.SUPPRESS)  # where configs/ is
    args = parser.parse_args(argv)
    names = NAMES if args.benchmark == ["all"] else args.benchmark
    for name in names:
        if name not in NAMES:
            raise UserError(f"no benchmark {name}: choose from {', '.join(NAMES)}")
    wrong = examine(names, args.data, args.root)
    print("nothing is in the way" if not wrong else f"{wrong} thing(s) to fix")
    return min(wrong, 1)
