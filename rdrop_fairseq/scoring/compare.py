"""`compare`: a baseline and R-Drop on one test set, and the significance of their difference, as Markdown or JSON."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import stdev

from tqdm import tqdm

from rdrop_fairseq import files
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.scoring import conventions, results
from rdrop_fairseq.scoring.generation import read_system
from rdrop_fairseq.scoring.significance import RESAMPLES, TRIALS, Comparison, compare

MARKDOWN = "comparison.md"
JSON = "comparison.json"


def main(argv: list[str], prog: str) -> None:
    """The command line of `compare`."""
    parser = _parser(prog)
    args = parser.parse_args(argv)
    if len(args.systems) == 2 and not (args.baseline or args.rdrop):
        baseline_paths, system_paths = args.systems[:1], args.systems[1:]
    elif not args.systems and args.baseline and args.rdrop:
        baseline_paths, system_paths = args.baseline, args.rdrop
    else:
        parser.error("give BASELINE and RDROP, or --baseline and --rdrop with one path per seed")
    given = [[text for path in paths for text in _texts(path, args)] for paths in (baseline_paths, system_paths)]
    baseline, system = given
    if len(baseline) != len(system):
        raise UserError(f"{len(baseline)} seeds of the baseline but {len(system)} of R-Drop: give as many of each")
    _check_same_test_set([*baseline, *system], [*baseline_paths, *system_paths])
    comparisons = _compare(baseline, system, args.convention)
    content = {
        "baseline": [str(path) for path in baseline_paths],
        "rdrop": [str(path) for path in system_paths],
        "sentences": len(baseline[0].hypotheses),
        "seeds": len(baseline),
        "sacrebleu": importlib.metadata.version("sacrebleu"),
        "comparisons": [asdict(comparison) for comparison in comparisons],
    }
    as_json = json.dumps(content, indent=2, ensure_ascii=False)
    markdown = table(comparisons, len(baseline[0].hypotheses))
    if args.output:
        for name, text in ((MARKDOWN, markdown), (JSON, as_json)):
            with files.atomic(args.output / name, "w") as file:
                file.write(text + "\n")
    print(as_json if args.json else markdown)


def table(comparisons: Sequence[Comparison], sentences: int) -> str:
    """The comparisons as a Markdown table, with an explanation of its numbers below."""
    rows = [
        "| convention | baseline | R-Drop | difference | 95 % interval | p (bootstrap) | p (randomization) |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in comparisons:
        low, high = each.difference_interval
        rows.append(
            f"| {each.title} | {_cell(each.baseline, each.baseline_interval)} "
            f"| {_cell(each.system, each.system_interval)} | {each.difference:+.2f} | {low:+.2f} to {high:+.2f} "
            f"| {each.p_bootstrap:.4f} | {each.p_randomization:.4f} |"
        )
    seeds = len(comparisons[0].baseline_seeds)
    rows += ["", f"{sentences} sentences; in brackets and of the difference: 95 % intervals of {RESAMPLES} paired "]
    rows[-1] += f"bootstrap resamples; randomization: {TRIALS} trials."
    if seeds > 1:
        rows += ["", f"Means of {seeds} seeds:", ""]
        rows += [f"- {each.title}: baseline {_spread(each.baseline_seeds)}, R-Drop {_spread(each.system_seeds)}"
                 for each in comparisons]  # fmt: skip
    return "\n".join([*rows, "", *(f"- {each.title}: `{each.signature}`" for each in comparisons)])


def _cell(score: float, interval: tuple[float, float]) -> str:
    return f"{score:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def _spread(scores: Sequence[float]) -> str:
    return f"{', '.join(f'{score:.2f}' for score in scores)} (s.d. {stdev(scores):.2f})"


def _compare(
    baseline: Sequence[results.Texts], system: Sequence[results.Texts], wanted: Sequence[str] | None
) -> list[Comparison]:
    first = baseline[0]
    names = wanted or list(conventions.TITLES)
    found = []
    for name in tqdm(names, desc="comparing", unit="convention", disable=None):
        scorer = conventions.scorer(name, first.language, first.lowercases(name))
        ours, theirs = ([text.pair(name)[0] for text in texts] for texts in (system, baseline))
        found.append(compare(name, conventions.TITLES[name], scorer, theirs, ours, first.pair(name)[1]))
    return found


def _texts(path: Path, args: argparse.Namespace) -> list[results.Texts]:
    """Reads a system: a result directory, its scores.json, a folder of those (one per seed), generation or text."""
    if path.is_file() and path.name == results.SCORES:
        path = path.parent
    if path.is_dir():
        inside = sorted(entry.parent for entry in path.glob(f"*/{results.SCORES}"))
        found = [path] if (path / results.SCORES).is_file() else inside
        if not found:
            raise UserError(f"{path} has no {results.SCORES}, nor any directory in it: score the system first")
        return [results.read(directory) for directory in found]
    hypotheses, references, _ = read_system(path, args.ref)
    return [results.make_texts(hypotheses, references, args.lang, lowercase=args.lowercase)]


def _check_same_test_set(texts: Sequence[results.Texts], paths: Sequence[Path]) -> None:
    first = texts[0]
    for other in texts:
        same = (other.references, other.plain_references, other.language, other.lowercase)
        if same != (first.references, first.plain_references, first.language, first.lowercase):
            raise UserError(f"the systems in {', '.join(map(str, paths))} were not scored against the same references")


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} BASELINE RDROP [options]\n       {prog} --baseline SEED... --rdrop SEED... [options]",
        description="Compare two systems by paired bootstrap and approximate randomization. A system is a directory "
        "that the score command made (or one that holds several, one per seed), its scores.json, what "
        "fairseq-generate printed, or a text file with --ref.",
    )
    parser.add_argument("systems", nargs="*", type=Path, metavar="BASELINE RDROP")
    parser.add_argument("--baseline", nargs="+", type=Path, metavar="SEED", help="the baseline, one path per seed")
    parser.add_argument("--rdrop", nargs="+", type=Path, metavar="SEED", help="R-Drop, one path per seed")
    parser.add_argument("--ref", type=Path, action="append", help="references of text files; again for a second one")
    parser.add_argument("--lang", help="language of text files: they are detokenized for sacreBLEU and chrF2")
    parser.add_argument("--lowercase", action="store_true", help="disregard case in text files")
    parser.add_argument("--convention", action="append", choices=list(conventions.TITLES), help="only this")
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown")
    parser.add_argument("--output", type=Path, metavar="DIR", help=f"also write {MARKDOWN} and {JSON} there")
    return parser
