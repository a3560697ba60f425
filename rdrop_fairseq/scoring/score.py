"""`score`: BLEU and chrF by every convention, of two text files or of a model on a binarized test set."""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from rdrop_fairseq import files, published
from rdrop_fairseq.corpus import manifest
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.scoring import average, conventions, results
from rdrop_fairseq.scoring.generation import Generation, read_references, read_system
from rdrop_fairseq.scoring.text import read_reference
from rdrop_fairseq.scoring.translate import find_test_set, generate_command, translate

GENERATION = "generate.txt"
AVERAGED = "averaged.pt"


def main(argv: list[str], prog: str) -> None:
    """The command line of `score`; what follows `--` goes to fairseq-generate."""
    cut = argv.index("--") if "--" in argv else len(argv)
    parser = _parser(prog)
    args = parser.parse_args(argv[:cut])
    if args.hyp is not None and args.data is None:
        texts, result = score_files(args)
    elif args.hyp is None and args.checkpoints:
        texts, result = score_model(args, argv[cut + 1 :])
    else:
        parser.error("give either --hyp and --ref, or DATA and CHECKPOINT")
    print(result.as_json(texts) if args.json else result)


def score_files(args: argparse.Namespace) -> tuple[results.Texts, results.Result]:
    """Scores a hypothesis file, or the saved output of fairseq-generate, against the reference files."""
    hypotheses, references, generation = read_system(args.hyp, args.ref)
    texts = _texts(args, hypotheses, references, args.lang)
    notes = [] if generation is None else _notes(generation)
    periods = sum(line.endswith(" .") for line in texts.plain_hypotheses)
    if args.lang is None and periods > len(hypotheses) // 2:
        notes.append("the text looks tokenized: give --lang, or sacreBLEU and chrF2 are not comparable to others")
    return texts, _result(args, texts, args.benchmark, notes, {})


def score_model(args: argparse.Namespace, extra: list[str]) -> tuple[results.Texts, results.Result]:
    """Averages if several checkpoints are meant (or takes them as an ensemble), translates and scores; the output
    directory is replaced as a whole."""
    paths = average.choose(args)
    output = args.output or _output_of(args, paths)
    if output.is_dir() and any(output.iterdir()) and not (output / results.SCORES).is_file():
        raise UserError(f"{output} holds other things than scores: give another --output, or an empty directory")
    output.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own for every run: two at a time do not meet either.
    part = Path(tempfile.mkdtemp(prefix=f"{output.name}.", suffix=".tmp", dir=output.parent))
    try:
        with files.explain_disk_full(output):
            part.chmod(0o755)
            texts, result = _translate_and_score(args, paths, part, extra)
            files.move_into_place(part, output)
    finally:
        files.remove(part)
    print(f"{output}: texts, {results.REPORT}, {results.SCORES}, {GENERATION}", file=sys.stderr)
    return texts, result


def _translate_and_score(
    args: argparse.Namespace, paths: list[Path], part: Path, extra: list[str]
) -> tuple[results.Texts, results.Result]:
    test_set = find_test_set(args.data, args.subset, paths[-1])
    benchmark = args.benchmark or test_set.benchmark()
    if args.ensemble or len(paths) == 1:
        models = paths
    else:
        models = [part / AVERAGED]
        average.average(paths, models[0])
    recipe = published.decoding(benchmark or "")
    beam = recipe.beam if args.beam is None else args.beam
    decoding = replace(recipe, beam=beam, lenpen=recipe.lenpen if args.lenpen is None else args.lenpen)
    command = generate_command(test_set, models, decoding, extra)
    print(f"translating {test_set.subset} with beam {beam}, lenpen {decoding.lenpen:g}", file=sys.stderr)
    generation = translate(command, part / GENERATION, test_set.sentences)
    args.plain_ref = args.plain_ref or test_set.plain_reference()
    references = read_references(args.ref, generation, args.data)
    texts = _texts(args, generation.hypotheses, references, args.lang or test_set.target)
    made = {
        "data": str(args.data),
        "subset": args.subset,
        "checkpoints": [str(path) for path in paths],
        "averaged": models != paths,
        "beam": decoding.beam,
        "lenpen": decoding.lenpen,
        "plain_reference": str(args.plain_ref) if args.plain_ref else None,
        "command": [word.replace(str(part), ".") for word in command],
        "versions": {**manifest.versions(), **manifest.versions("torch", "sacrebleu")},
    }
    result = _result(args, texts, benchmark, _notes(generation), made)
    results.write(part, texts, result)
    return texts, result


def _texts(
    args: argparse.Namespace, hypotheses: list[str], references: list[list[str]], language: str | None
) -> results.Texts:
    plain = [read_reference(args.plain_ref)] if args.plain_ref else None
    return results.make_texts(hypotheses, references, language, plain, args.lowercase)


def _result(
    args: argparse.Namespace, texts: results.Texts, benchmark: str | None, notes: list[str], made: dict[str, object]
) -> results.Result:
    scores = [texts.score(convention) for convention in args.convention or list(conventions.TITLES)]
    if results.is_lowercased(texts.references):
        notes = [*notes, "the references are lowercased: scores are not comparable to those of cased text"]
    if any(" @-@ " in line for lines in texts.references for line in lines):
        notes = [
            *notes,
            "words are split at hyphens (@-@) already: tokenized BLEU is what others call compound-split; the "
            "compound-split BLEU here splits once more and is too high",
        ]
    if args.plain_ref is None and texts.language is not None:
        notes = [*notes, "detokenized references stand for the original ones in sacreBLEU and chrF2 (--plain-ref)"]
    return results.Result(scores, len(texts.hypotheses), benchmark, notes, made)


def _notes(generation: Generation) -> list[str]:
    unknown = generation.unknown_in_targets()
    if not unknown:
        return []
    return [f"{unknown} references hold <<unk>>, a word that the dictionary lacks; --ref gives the real ones"]


def _output_of(args: argparse.Namespace, paths: list[Path]) -> Path:
    """Beside the checkpoints: scores/SUBSET.CHECKPOINT, or SUBSET.average-FIRST-LAST."""
    how = "ensemble" if args.ensemble else "average"
    name = paths[0].stem if len(paths) == 1 else f"{how}-of-{len(paths)}-{paths[0].stem}-{paths[-1].stem}"
    return paths[-1].parent / "scores" / f"{args.subset}.{name}"


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} DATA CHECKPOINT... [options] [-- fairseq-generate options]\n"
        f"       {prog} --hyp H --ref R [options]",
        description="Score a translation by every convention, each with its name and signature. "
        "Several checkpoints are averaged first, or translate together (--ensemble).",
    )
    parser.add_argument("data", nargs="?", type=Path, metavar="DATA", help="binarized data directory")
    parser.add_argument(
        "checkpoints", nargs="*", type=Path, metavar="CHECKPOINT",
        help="checkpoint files, or a directory with --average-last or --average-best",
    )  # fmt: skip
    parser.add_argument("--hyp", type=Path, help="translations, one per line; or what fairseq-generate printed")
    parser.add_argument(
        "--ref", type=Path, action="append", help="tokenized references, one per line; again for a second reference"
    )
    parser.add_argument("--plain-ref", type=Path, help="the reference as people wrote it (or .sgm), for sacreBLEU")
    parser.add_argument("--lang", help="language of the translation: detokenize --hyp and --ref for sacreBLEU")
    parser.add_argument("--convention", action="append", choices=list(conventions.TITLES), help="only this")
    parser.add_argument("--lowercase", action="store_true", help="disregard case (multi-bleu.perl -lc)")
    parser.add_argument("--json", action="store_true", help="print JSON (DATA CHECKPOINT: it is also written)")
    parser.add_argument(
        "--benchmark", choices=published.benchmarks("BLEU"),
        help="whose recipe and published numbers (default: what the manifest.json of DATA says)",
    )  # fmt: skip
    model = parser.add_argument_group("for DATA CHECKPOINT")
    average.add_choice(model, "average-")
    model.add_argument("--ensemble", action="store_true", help="mean of the models' probabilities, not one mean model")
    model.add_argument("--subset", default="test", help="default: test")
    model.add_argument("--beam", type=int, help="default: the recipe's, 5 without one")
    model.add_argument("--lenpen", type=float, help="length penalty; default: the recipe's, 1 without one")
    model.add_argument(
        "--output", type=Path, metavar="DIR", help="default: scores/SUBSET.CHECKPOINT beside the checkpoint"
    )
    return parser
