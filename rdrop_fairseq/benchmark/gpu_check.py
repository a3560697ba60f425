"""Checks and measures everything on a GPU within some minutes, and writes the tables that README.md here takes.

Parts, the most important first, each in a process of its own with a share of the time: the machine and its best rates;
the tests of tests/gpu; the loss alone; whole training steps; the largest batches. With --device cpu the same parts run
on tiny inputs: a rehearsal, whose figures mean nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from rdrop_fairseq import files
from rdrop_fairseq.benchmark import table
from rdrop_fairseq.errors import UserError

ROOT = files.PACKAGE.parent
# Part -> its share of the seconds left when it starts; what it does not use goes to the next parts.
SHARES = {"machine": 0.2, "tests": 0.4, "loss": 0.45, "steps": 0.7, "largest": 1.0}
TITLES = {
    "machine": "Machine",
    "loss": "Loss and projection alone",
    "steps": "Training steps by fairseq's Trainer",
    "largest": "Largest batch that fits, in tokens per side with padding, up to 131,072",
}
MARGIN = 0.9  # the share of its seconds that a part plans to use; it is ended after all of them
RESERVE = 10.0  # seconds for writing the results
LEAST = 5.0  # seconds that a part needs to start


def main(argv: list[str], prog: str) -> int:
    """`benchmark gpu`; 1 if a test or a measurement failed."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="it ends within these")
    parser.add_argument("--out", type=Path, default=Path("outputs/gpu_check"), help="folder of gpu_check.md and .json")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="tiny inputs on a GPU as well")
    parser.add_argument("--parts", nargs="+", choices=list(SHARES), default=list(SHARES))
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)  # this process is the one part itself
    args = parser.parse_args(argv)
    args.out = args.out.absolute()  # the parts run elsewhere
    tiny = args.tiny or args.device == "cpu"
    if args.until:
        from rdrop_fairseq.benchmark import gpu_parts

        logging.disable(logging.WARNING)  # fairseq prints a page for every batch that does not fit
        warnings.simplefilter("ignore")
        (part,) = args.parts
        gpu_parts.run(part, args.device, tiny, args.until, args.out / f"{part}.json")
        return 0
    started = time.monotonic()
    if args.minutes * 60 < RESERVE + LEAST:
        parser.error(f"--minutes {args.minutes:g} is too short: give at least {(RESERVE + LEAST) / 60:.2f}")
    if args.device == "cuda":
        check_gpu()
    args.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"command": f"{prog} {' '.join(argv)}".strip(), "device": args.device, "tiny": tiny}
    results["parts"] = {}
    chosen = [part for part in SHARES if part in args.parts]
    for part in chosen:
        left = args.minutes * 60 - RESERVE - (time.monotonic() - started)
        share = 1.0 if part == chosen[-1] else SHARES[part]
        results["parts"][part] = run_part(part, left * share, args) if left > LEAST else not_reached(part)
        results["seconds"] = round(time.monotonic() - started)
        write(args.out, results)
    print((args.out / "gpu_check.md").read_text(encoding="utf-8"))
    print(f"written to {args.out}")
    return 1 if any(result["faults"] for result in results["parts"].values()) else 0


def check_gpu() -> None:
    """Raises UserError where torch sees no GPU."""
    import torch

    from rdrop_fairseq.training import hardware

    if not torch.cuda.is_available():
        reason = hardware.why_unseen() or f"torch {torch.__version__} sees no GPU"
        raise UserError(f"{reason}; --device cpu rehearses every part on tiny inputs")


def not_reached(part: str) -> dict[str, Any]:
    """The result of a part that did not start."""
    return {"rows": [], "pending": [part], "faults": []}


def run_part(part: str, seconds: float, args: argparse.Namespace) -> dict[str, Any]:
    """The result of one part, run in a process of its own that is ended after these seconds."""
    print(f"--- {part}, at most {seconds:.0f} s", flush=True)
    if part == "tests":
        return run_tests(seconds, args.device, args.out)
    path = args.out / f"{part}.json"
    files.remove(path)
    words = ["-m", "rdrop_fairseq", "benchmark", "gpu", "--parts", part]
    words += ["--until", str(time.time() + MARGIN * seconds)]
    words += ["--device", args.device, "--out", str(args.out), *(["--tiny"] if args.tiny else [])]
    status = run_for(seconds, words, {})
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else not_reached(part)
    if status not in (0, None):
        result["faults"].append(f"{part} ended with status {status}, see above")
    return result


def run_tests(seconds: float, device: str, out: Path) -> dict[str, Any]:
    """How many of tests/gpu passed, and which failed."""
    found = out / "tests.xml"
    files.remove(found)
    if not (ROOT / "tests" / "gpu").is_dir():
        return {"rows": [], "pending": [], "faults": [f"no tests in {ROOT}: run this from a checkout"]}
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", f"--junitxml={found}", "tests/gpu"]
    status = run_for(seconds, words, {"RDROP_TEST_DEVICE": device})
    ended = f"did not end in {seconds:.0f} s" if status is None else f"ended with status {status}, see above"
    if not found.exists():
        return {"rows": [], "pending": [], "faults": [f"the tests {ended}"]}
    counts: dict[str, int] = {"passed": 0, "failed": 0, "skipped": 0}
    faults = []
    for case in ElementTree.parse(found).getroot().iterfind(".//testcase[@name]"):  # without a name if pytest is ended
        kinds = {child.tag for child in case}
        kind = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        counts[kind] += 1
        if kind == "failed":
            faults.append(f"failed: {case.get('classname')}::{case.get('name')}")
    if status is None or (status and not faults):
        faults.append(f"the tests {ended}")
    return {"rows": [counts], "pending": [], "faults": faults}


def run_for(seconds: float, words: Sequence[str], variables: Mapping[str, str]) -> int | None:
    """Exit status of this Python with these words, run in the checkout; None if it was ended."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, **variables, "PYTHONPATH": paths}
    process = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env=environment, start_new_session=True, preexec_fn=_interruptible
    )
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)  # pytest then still writes its results
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=LEAST)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _interruptible() -> None:
    """A script's background job ignores SIGINT, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def write(out: Path, results: Mapping[str, Any]) -> None:
    """gpu_check.json and gpu_check.md."""
    with files.atomic(out / "gpu_check.json", "w") as file:
        json.dump(results, file, indent=1)
    with files.atomic(out / "gpu_check.md", "w") as file:
        file.write(markdown(results))


def markdown(results: Mapping[str, Any]) -> str:
    """The tables, and what failed or was not reached."""
    lines = ["## On a GPU" if results["device"] == "cuda" and not results["tiny"] else "## A rehearsal on tiny inputs"]
    lines += ["", f"Measured by `{results['command']}` in {results['seconds']} s.", ""]
    for part, result in results["parts"].items():
        rows = result["rows"]
        if part == "tests" and rows:
            lines += ["Tests: " + ", ".join(f"{count} {kind}" for kind, count in rows[0].items()) + ".", ""]
        elif part == "machine":
            for row in rows:
                lines.append("- " + ", ".join(f"{key}: {table.text(value)}" for key, value in row.items() if value))
            lines.append("")
        elif rows:
            lines += [f"### {TITLES[part]}", "", table.markdown(rows), ""]
    for key, title in (("faults", "Failed"), ("pending", "Not reached")):
        found = [f"- {part}: {what}" for part, result in results["parts"].items() for what in result[key]]
        if found:
            lines += [f"### {title}", "", *found, ""]
    return "\n".join(lines)
