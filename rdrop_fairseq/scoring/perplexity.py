"""`perplexity`: a language model on a test set, by fairseq-eval-lm, and what it says of each block of text.

The convention of the R-Drop paper (and of fairseq's own results on WikiText-103): per word of the data set, the end of
a line counted as a word, every word with at least `context-window` words before it (where the text has them): blocks
of tokens-per-sample words, of which those beyond the context window are scored.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rdrop_fairseq import files, published
from rdrop_fairseq.errors import UserError

# The paper's: fairseq-eval-lm --max-sentences 2 --tokens-per-sample 512 --context-window 400
TOKENS_PER_SAMPLE, CONTEXT_WINDOW, SENTENCES = 512, 400, 2
SOFTMAX_BATCH = 1024  # positions whose whole distribution is held at a time


def score(checkpoint: Path, data: Path, split: str, tokens: int, context: int, further: list[str]) -> dict[str, Any]:
    """Perplexity and negative log-likelihood (nats) of each block, in the order of the text.

    tokens, context: as of fairseq-eval-lm. further: more options for it. Raises UserError for a checkpoint or split
    that is not there, and for a context that leaves no word to score.
    """
    if not checkpoint.is_file():
        raise UserError(f"there is no checkpoint {checkpoint}: give one that fairseq-train wrote")
    if not (data / f"{split}.idx").is_file():
        raise UserError(f"{data} has no {split}.idx: give a data directory of a language model, and its --split")
    if not 0 <= context < tokens:
        raise UserError(f"--context-window {context} must be less than --tokens-per-sample {tokens}, and not negative")
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from fairseq_cli import eval_lm

    import rdrop_fairseq

    rdrop_fairseq.register()
    words = [str(data), "--path", str(checkpoint), "--gen-subset", split, "--sample-break-mode", "none"]
    words += ["--tokens-per-sample", str(tokens), "--context-window", str(context)]
    words += ["--batch-size", str(SENTENCES), "--softmax-batch", str(SOFTMAX_BATCH), *further]
    args = options.parse_args_and_arch(options.get_eval_lm_parser(), words)
    logging.disable(logging.INFO)
    try:
        with _recorded(eval_lm) as blocks:
            told = eval_lm.main(convert_namespace_to_omegaconf(args))
    finally:
        logging.disable(logging.NOTSET)
    nll = [blocks[number][0] for number in sorted(blocks)]
    counts = [blocks[number][1] for number in sorted(blocks)]
    return {
        "checkpoint": str(checkpoint),
        "data": str(data),
        "split": split,
        "convention": f"per word, ends of lines counted; tokens-per-sample {tokens}, context window {context}",
        "perplexity": float(told["perplexity"]),
        "bits_per_word": float(told["loss"]),
        "words": sum(counts),
        "block_nll": nll,
        "block_words": counts,
    }


@contextmanager
def _recorded(eval_lm: Any) -> Iterator[dict[int, tuple[float, int]]]:
    """Block -> (nll, words) of what fairseq's scorer returns inside."""
    blocks: dict[int, tuple[float, int]] = {}
    original = eval_lm.SequenceScorer

    class Recording(original):  # type: ignore[misc, valid-type]
        def generate(self, models: Any, sample: dict[str, Any], **kwargs: Any) -> Any:
            found = super().generate(models, sample, **kwargs)
            for number, hypotheses in zip(sample["id"].tolist(), found):
                scores = hypotheses[0]["positional_scores"].double()
                blocks[number] = (-float(scores.sum()), scores.numel())
            return found

    eval_lm.SequenceScorer = Recording
    try:
        yield blocks
    finally:
        eval_lm.SequenceScorer = original


def main(argv: list[str], prog: str) -> int | None:
    """The command line of `perplexity`."""
    parser = argparse.ArgumentParser(prog=prog, description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("data", type=Path, help="data directory, such as data/wikitext103/bin")
    parser.add_argument("checkpoint", type=Path, help="of a language model")
    parser.add_argument("--split", default="test", help="valid or test (default: test)")
    parser.add_argument("--tokens-per-sample", type=int, default=TOKENS_PER_SAMPLE, metavar="N")
    parser.add_argument("--context-window", type=int, default=CONTEXT_WINDOW, metavar="N", help="at least")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: SPLIT.perplexity.json beside the checkpoint")
    known = published.benchmarks("perplexity")
    parser.add_argument("--published", choices=known, help="print its published numbers beside ours")
    parser.usage = f"{prog} DATA CHECKPOINT [options] [-- options of fairseq-eval-lm]"
    ours = argv[: argv.index("--")] if "--" in argv else argv
    args, further = parser.parse_args(ours), argv[len(ours) + 1 :]
    rows = published.TABLE[args.published] if args.published else []
    result = score(
        args.checkpoint, args.data, args.split, args.tokens_per_sample, args.context_window, further
    )
    out = args.out or args.checkpoint.parent / f"{args.split}.perplexity.json"
    with files.atomic(out, "w") as file:
        file.write(json.dumps({**result, "published": [row.as_json() for row in rows]}, indent=1) + "\n")
    print(f"perplexity {result['perplexity']:.2f} on {args.split}, {result['words']:,} words ({result['convention']})")
    for row in rows:
        print(f"published: {row.system} {row.score} ({row.remark()})")
    print(f"details: {out}")
    return 0


def read(path: Path) -> dict[str, Any]:
    """A result of `perplexity`. Raises UserError for another file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        total, words = sum(found["block_nll"]), sum(found["block_words"])
        if not math.isclose(math.exp(total / words), found["perplexity"], rel_tol=1e-3):
            raise ValueError("its blocks and its perplexity do not agree")
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise UserError(f"{path} is no result of score_perplexity.sh ({error}): score the model first") from error
    return found
