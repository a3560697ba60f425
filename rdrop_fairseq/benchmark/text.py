"""How fast the text steps are: lines per CPU second, beside sacremoses on the same lines, and seconds per corpus."""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Callable

from rdrop_fairseq.corpus import filters, lines, moses
from rdrop_fairseq.corpus.clean import Cleaner

WORDS = 25
TARGET_CORES = 16
# Sentence pairs, about, as published.
CORPORA = {"IWSLT14 De-En": 174_272, "WMT14 En-De": 4_500_000, "WMT14 En-Fr": 35_800_000}
# How often (of 992) each ending follows a word; an invented mix, close to that of news.
ENDINGS = {"": 870, ",": 60, ".": 8, ")": 5, '"': 8, "'s": 5, ":": 4, "-Jahr": 10, " (": 5, ' "': 8, "’s": 3, " –": 6}


def generated(number: int, seed: int = 1) -> list[str]:
    """Lines of 25 words with punctuation, and the rank-frequency law of real text (Zipf-Mandelbrot, 400,000 types)."""
    rnd = random.Random(seed)
    letters = "eeeennnnissrrratttdhhuuullcggmmobwfkzpväüößjyxq"
    types = ["".join(rnd.choices(letters, k=2 + min(14, (rank.bit_length() * 2) // 3))) for rank in range(400_000)]
    types = [word.capitalize() if rnd.random() < 0.3 else word for word in types]
    weights = list(accumulate(1 / (rank + 2.7) for rank in range(len(types))))
    endings = list(accumulate(ENDINGS.values()))
    result = []
    for _ in range(number):
        words = rnd.choices(types, cum_weights=weights, k=WORDS)
        beside = rnd.choices(list(ENDINGS), cum_weights=endings, k=WORDS - 1)
        result.append(" ".join(map("".join, zip(words, [*beside, rnd.choice("...?!")]))))
    return result


def regrouped(path: Path) -> list[str]:
    """The words of a text file in lines of 25, so that texts can be compared."""
    words = path.read_text(encoding="utf-8").split()
    return [" ".join(words[start : start + WORDS]) for start in range(0, len(words) - WORDS + 1, WORDS)]


def per_cpu_second(function: Callable[[str], object], text: Sequence[str]) -> float:
    """Lines per second of process CPU time, which other work on the machine disturbs less than wall time."""
    start = time.process_time()
    for line in text:
        function(line)
    return len(text) / (time.process_time() - start)


def steps(lang: str, text: Sequence[str]) -> dict[str, float]:
    """Lines per CPU second of each step, on the output of the one before; the tokenizer starts with nothing known."""
    rates = {}
    normalize, cleaner = moses.Normalizer(lang), Cleaner(1, 250, 1.5)
    rates["normalize"] = per_cpu_second(normalize, text)
    text = [normalize(line) for line in text]
    rates["remove non-printing"] = per_cpu_second(moses.remove_nonprinting, text)
    tokenize = moses.Tokenizer(lang, aggressive=True)
    rates["tokenize -a"] = per_cpu_second(tokenize, text)
    text = [tokenize(line) for line in text]
    rates["clean (per line of a pair)"] = 2 * per_cpu_second(lambda line: cleaner(line, line), text)
    rates["lower"] = per_cpu_second(moses.lowercase, text)
    return rates


def sacremoses_steps(lang: str, text: Sequence[str]) -> dict[str, float]:
    """The same of sacremoses, the library that Python pipelines use."""
    import sacremoses

    normalizer, tokenizer = sacremoses.MosesPunctNormalizer(lang), sacremoses.MosesTokenizer(lang)
    text = list(text)
    normalize = per_cpu_second(normalizer.normalize, text)
    tokenize = per_cpu_second(
        lambda line: tokenizer.tokenize(line, aggressive_dash_splits=True, return_str=True),
        [normalizer.normalize(line) for line in text],
    )
    return {"normalize": normalize, "tokenize -a": tokenize}


class Whole:
    """Normalize, remove non-printing, tokenize -a on both sides, then clean: what a pair of WMT14 goes through."""

    def __init__(self, lang: str) -> None:
        self.left, self.right = (filters.tokenize(lang, aggressive=True, normalize=True) for _ in range(2))
        self.clean = Cleaner(1, 250, 1.5)

    def __call__(self, left: str, right: str) -> tuple[str, str] | None:
        return self.clean(str(self.left(left)), str(self.right(right)))


def whole(lang: str, text: Sequence[str], workers: int) -> tuple[float, float, float]:
    """Files in, files out: lines per second of wall time, per CPU second of all processes, and of the first one alone.

    The last is what limits many workers: one process reads, hands out and writes.
    """
    with tempfile.TemporaryDirectory() as folder:
        inputs = [Path(folder, "left"), Path(folder, "right")]
        for path in inputs:
            path.write_text("".join(line + "\n" for line in text), encoding="utf-8")
        outputs = [Path(folder, "left.out"), Path(folder, "right.out")]
        wall, own, children = time.perf_counter(), _cpu(resource.RUSAGE_SELF), _cpu(resource.RUSAGE_CHILDREN)
        lines.map_files(Whole(lang), inputs, outputs, workers)
        wall, own = time.perf_counter() - wall, _cpu(resource.RUSAGE_SELF) - own
        everything = own + _cpu(resource.RUSAGE_CHILDREN) - children
    number = 2 * len(text)
    return number / wall, number / everything, number / own


def _cpu(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def report(lang: str, text: Sequence[str], workers: int) -> str:
    """The table, as Markdown."""
    ours, theirs = steps(lang, text), sacremoses_steps(lang, text[: max(200, len(text) // 20)])
    rows = [
        f"{len(text)} lines of {WORDS} words, language {lang}, one process, lines per CPU second:",
        "",
        "| step | rdrop_fairseq | sacremoses | ratio |",
        "|---|---:|---:|---:|",
    ]
    for step, rate in ours.items():
        compared = f"{theirs[step]:,.0f} | {rate / theirs[step]:.1f}" if step in theirs else "|"
        rows.append(f"| {step} | {rate:,.0f} | {compared} |")
    wall, cpu, first = whole(lang, text, workers)
    at_target = min(TARGET_CORES * cpu, first)
    rows += [
        "",
        f"All steps, pairs of files in and out, {workers} workers: {wall:,.0f} lines per second of wall time,",
        f"{cpu:,.0f} per CPU second; the process that reads and writes could feed {first:,.0f} lines per second.",
        "",
        f"| corpus | pairs | on {TARGET_CORES} cores (projected) |",
        "|---|---:|---:|",
    ]
    for corpus, pairs in CORPORA.items():
        rows.append(f"| {corpus} | {pairs:,} | {2 * pairs / at_target:,.0f} s |")
    return "\n".join(rows)


def main(argv: list[str], prog: str) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog=prog, description="Time the text steps beside sacremoses.")
    parser.add_argument("--lang", default="de", help="language whose rules are used (de)")
    parser.add_argument("--input", type=Path, metavar="FILE", help="text to use, regrouped; generated if not given")
    parser.add_argument("--lines", type=int, default=100_000, help="how many lines of 25 words at most (100000)")
    parser.add_argument("--workers", type=int, default=2, help="processes for the run over files (2)")
    options = parser.parse_args(argv)
    text = regrouped(options.input)[: options.lines] if options.input else generated(options.lines)
    print(report(options.lang, text, options.workers))
