"""`perplexity`: the likelihood of a test set, block by block, under a language model (fairseq-eval-lm), or of the
references under a translation model or an ensemble of several (fairseq-generate --score-reference).

Language models follow the R-Drop paper, as fairseq's own results on WikiText-103 do: the perplexity is per word, an end
of line counts as a word, and each word is predicted from at least `context-window` words before it, where the text has
them. A block is what is scored in one window of tokens-per-sample words. Translation models follow fairseq's validation
log: the perplexity is per token of the dictionary, an end of sentence counts as a token, and a block is a sentence.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rdrop_fairseq import files, published
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.scoring.translate import find_test_set

# The paper's: fairseq-eval-lm --max-sentences 2 --tokens-per-sample 512 --context-window 400
TOKENS_PER_SAMPLE, CONTEXT_WINDOW, SENTENCES = 512, 400, 2
SOFTMAX_BATCH = 1024  # positions whose whole distribution is held at a time
TRANSLATION_TOKENS = 4000  # of a batch: at V 40,000 the distributions take 640 MB in fp32

Blocks = dict[int, tuple[float, int]]  # number -> nats, words


def score(checkpoint: Path, data: Path, split: str, tokens: int, context: int, further: list[str]) -> dict[str, Any]:
    """A language model's perplexity, and negative log-likelihood (nats) of each block, in the order of the text.

    tokens, context: as of fairseq-eval-lm. further: more options for it. Raises UserError for a checkpoint or split
    that is not there, for a context that leaves no word to score, and for blocks that are too long for the model.
    """
    _check_there([checkpoint])
    if not (data / f"{split}.idx").is_file():
        raise UserError(f"{data} has no {split}.idx: give a data directory of a language model, and its --split")
    if not 0 <= context < tokens:
        raise UserError(f"--context-window {context} must be less than --tokens-per-sample {tokens}, and not negative")
    from fairseq import options
    from fairseq_cli import eval_lm

    words = [str(data), "--path", str(checkpoint), "--gen-subset", split, "--sample-break-mode", "none"]
    words += ["--tokens-per-sample", str(tokens), "--context-window", str(context)]
    words += ["--batch-size", str(SENTENCES), "--softmax-batch", str(SOFTMAX_BATCH), *further]
    # A batch's context is what the process that loads it has loaded last: with several of them, another block's words.
    words += ["--num-workers", "0"]
    blocks, found = _run(options.get_eval_lm_parser(), words, eval_lm.main, eval_lm)
    if len(blocks) <= max(blocks, default=0):  # numbers are missing: fairseq skips what the model does not take
        raise UserError(
            f"only {len(blocks)} blocks of {split} were scored: {tokens - context} words in each, --tokens-per-sample "
            "less --context-window, are more than the model was trained on; give a smaller --tokens-per-sample"
        )
    convention = f"per word, ends of lines counted; tokens-per-sample {tokens}, context window {context}"
    own = {"perplexity": float(found["perplexity"]), "bits_per_word": float(found["loss"])}
    return {**_result(str(checkpoint), data, split, convention, blocks), **own}


def score_translation(checkpoints: Sequence[Path], data: Path, split: str, further: Sequence[str]) -> dict[str, Any]:
    """As `score`, for a translation model or an ensemble on the references; a block is a sentence, in the data's order.

    further: more options for fairseq-generate. Raises UserError for a checkpoint or split that is not there.
    """
    _check_there(checkpoints)
    test_set = find_test_set(data, split, checkpoints[0])
    from fairseq import options, sequence_scorer
    from fairseq_cli import generate

    path = ":".join(map(str, checkpoints))
    words = [str(data), "--path", path, "--gen-subset", split, "--score-reference", "--quiet"]
    words += ["--source-lang", test_set.source, "--target-lang", test_set.target]
    words += ["--required-batch-size-multiple", "1", "--max-tokens", str(TRANSLATION_TOKENS), *further]
    with contextlib.redirect_stdout(io.StringIO()):  # BLEU of the references against themselves
        blocks, _ = _run(options.get_generation_parser(), words, generate.main, sequence_scorer)
    if test_set.sentences not in (None, len(blocks)):
        raise UserError(
            f"{len(blocks)} of {test_set.sentences} sentences of {split} were scored: the rest are too long"
        )
    return _result(path, data, split, "per token, ends of sentences counted", blocks)


def _check_there(checkpoints: Sequence[Path]) -> None:
    for checkpoint in checkpoints:
        if not checkpoint.is_file():
            raise UserError(f"there is no checkpoint {checkpoint}: give one that fairseq-train wrote")


def _run(parser: argparse.ArgumentParser, words: list[str], main: Any, module: Any) -> tuple[Blocks, Any]:
    """Likelihood of each block by the SequenceScorer of `module` inside fairseq's `main`, and the value of `main`."""
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    import rdrop_fairseq

    rdrop_fairseq.register()
    args = options.parse_args_and_arch(parser, words)
    logging.disable(logging.INFO)
    try:
        with _recorded(module) as blocks:
            found = main(convert_namespace_to_omegaconf(args))
    finally:
        logging.disable(logging.NOTSET)
    return blocks, found


def _result(checkpoint: str, data: Path, split: str, convention: str, blocks: Blocks) -> dict[str, Any]:
    nll = [blocks[number][0] for number in sorted(blocks)]
    counts = [blocks[number][1] for number in sorted(blocks)]
    mean = sum(nll) / sum(counts)
    return {
        "checkpoint": checkpoint,
        "data": str(data),
        "split": split,
        "convention": convention,
        "perplexity": math.exp(mean),
        "bits_per_word": mean / math.log(2),
        "words": sum(counts),
        "block_nll": nll,
        "block_words": counts,
    }


@contextmanager
def _recorded(module: Any) -> Iterator[Blocks]:
    """Collects block -> (nll, words) from what fairseq's scorer returns meanwhile."""
    blocks: Blocks = {}
    original = module.SequenceScorer

    class Recording(original):  # type: ignore[misc, valid-type]
        def generate(self, models: Any, sample: dict[str, Any], **kwargs: Any) -> Any:
            found = super().generate(models, sample, **kwargs)
            for number, hypotheses in zip(sample["id"].tolist(), found):
                scores = hypotheses[0]["positional_scores"].double()
                blocks[number] = (-float(scores.sum()), scores.numel())
            return found

    module.SequenceScorer = Recording
    try:
        yield blocks
    finally:
        module.SequenceScorer = original


def main(argv: list[str], prog: str) -> int | None:
    """The command line of `perplexity`."""
    parser = argparse.ArgumentParser(prog=prog, description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("data", type=Path, help="data directory, such as data/wikitext103/bin")
    parser.add_argument("checkpoints", nargs="+", type=Path, metavar="CHECKPOINT", help="several: their ensemble")
    parser.add_argument(
        "--split", dest="splits", nargs="+", default=["test"], metavar="SPLIT", help="valid, test (default: test)"
    )
    parser.add_argument("--tokens-per-sample", type=int, default=TOKENS_PER_SAMPLE, metavar="N")
    parser.add_argument("--context-window", type=int, default=CONTEXT_WINDOW, metavar="N", help="at least")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: SPLIT.perplexity.json beside the checkpoint")
    known = published.benchmarks("perplexity")
    parser.add_argument("--published", choices=known, help="print its published numbers beside ours")
    parser.usage = f"{prog} DATA CHECKPOINT... [options] [-- options of fairseq-eval-lm or fairseq-generate]"
    ours = argv[: argv.index("--")] if "--" in argv else argv
    args, further = parser.parse_args(ours), argv[len(ours) + 1 :]
    rows = published.TABLE[args.published] if args.published else []
    if args.out and len(args.splits) > 1:
        raise UserError("--out is one file, for one split: leave it out, and each has its file beside the checkpoint")
    for split in args.splits:
        result, unit = _score(args, split, further)
        out = args.out or args.checkpoints[0].parent / f"{split}.perplexity.json"
        with files.atomic(out, "w") as file:
            file.write(json.dumps({**result, "published": [row.as_json() for row in rows]}, indent=1) + "\n")
        print(f"perplexity {result['perplexity']:.2f} ({result['bits_per_word']:.3f} bits) on {split}, "
              f"{result['words']:,} {unit} ({result['convention']})")  # fmt: skip
        for row in rows:
            print(f"published: {row.system} {row.score} ({row.remark()})")
        print(f"details: {out}")
    return 0


def _score(args: argparse.Namespace, split: str, further: list[str]) -> tuple[dict[str, Any], str]:
    """The result for the kind of data there is, and the unit that is counted."""
    if any(args.data.glob(f"{split}.*-*.*.idx")):
        return score_translation(args.checkpoints, args.data, split, further), "tokens"
    if len(args.checkpoints) > 1:
        raise UserError("an ensemble can be scored of translation models only: give one checkpoint of a language model")
    lengths = (args.tokens_per_sample, args.context_window)
    return score(args.checkpoints[0], args.data, split, *lengths, further), "words"


def read(path: Path) -> dict[str, Any]:
    """A result of `perplexity`. Raises UserError for another file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        total, words = sum(found["block_nll"]), sum(found["block_words"])
        if not math.isclose(math.exp(total / words), found["perplexity"], rel_tol=1e-3):
            raise ValueError("its blocks and its perplexity do not agree")
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise UserError(f"{path} is not a result of score_perplexity.sh ({error}): score the model first") from error
    return found
