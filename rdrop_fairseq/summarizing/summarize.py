"""Summaries of articles, one a line, from files or stdin: in the order of the input, whatever the batches.

The settings are those of the published recipe (--preset), each of which has an option. With --out a run that was
killed resumes. Empty lines have empty summaries; bytes that are not UTF-8 become U+FFFD; articles longer than the model
reads are cut. Each of these is counted, on stderr and in OUT.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from rdrop_fairseq import files, published
from rdrop_fairseq.corpus import manifest
from rdrop_fairseq.corpus.stories import decode, one_line
from rdrop_fairseq.errors import UserError, positive
from rdrop_fairseq.summarizing.journal import Journal

if TYPE_CHECKING:
    from rdrop_fairseq.summarizing.summarizer import Summarizer

PRESETS = {name: published.decoding(name).options() for name in published.benchmarks(published.ROUGE.metric)}
SETTINGS = {"beam": int, "lenpen": float, "max_len_b": int, "min_len": int, "no_repeat_ngram_size": int}


def read(paths: Sequence[Path]) -> tuple[list[str], dict[str, int]]:
    """The articles of files (of stdin without any), one a line, and {"articles", "empty", "one_word", "not_utf8"}."""
    try:
        contents = [path.read_bytes() for path in paths] or [sys.stdin.buffer.read()]
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}; give text, one article a line") from error
    articles, bad = [], 0
    for data in contents:
        lines = data.split(b"\n")
        for line in lines[:-1] if lines[-1] == b"" else lines:
            text, utf8 = decode(line)
            articles.append(one_line(text))
            bad += not utf8
    words = [len(article.split()) for article in articles]
    counts = {"articles": len(articles), "empty": words.count(0), "one_word": words.count(1), "not_utf8": bad}
    return articles, counts


def fill(journal: Journal, articles: Sequence[str], summarizer: Summarizer, max_tokens: int, max_sentences: int) -> int:
    """Summarizes the articles that the journal lacks; returns how many were too long to be read whole."""
    from rdrop_fairseq.summarizing.summarizer import batches

    whole = {number: summarizer.encode(article) for number, article in enumerate(articles) if article}
    tokens = {number: summarizer.fit(article) for number, article in whole.items()}
    lengths = {number: len(article) for number, article in tokens.items() if number not in journal.texts}
    with tqdm(total=len(whole), initial=len(whole) - len(lengths), unit="articles", mininterval=1.0) as bar:
        for batch in batches(lengths, max_tokens, max_sentences):
            journal.add(dict(zip(batch, summarizer.summarize([tokens[number] for number in batch]))))
            bar.update(len(batch))
    return sum(len(tokens[number]) < len(whole[number]) + summarizer.bos for number in whole)


def run(args: argparse.Namespace, settings: dict[str, Any]) -> None:
    """Runs all steps from the articles to the output."""
    articles, counts = read(args.articles)
    # mtime and size stand for the content of the checkpoint, which takes seconds to read
    looks = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in args.checkpoint if path.exists()]
    recipe = {"settings": settings, "bos": args.bos, "checkpoints": looks, "precision": args.precision}
    recipe |= {"data": str(args.data), "bpe": str(args.bpe or args.data)}  # dictionary and BPE decide the text as well
    text = json.dumps([recipe, articles]).encode("utf-8")
    key = hashlib.sha256(text).hexdigest()
    if args.out and args.out.exists() and _made_by(args.out) == key:
        print(f"{args.out} has these summaries already", file=sys.stderr)
        return

    import rdrop_fairseq

    rdrop_fairseq.register()
    from rdrop_fairseq.summarizing.summarizer import Summarizer

    summarizer = Summarizer(
        args.checkpoint, args.data, settings, args.bos, bpe=args.bpe, precision=args.precision, device=args.device
    )
    partial = args.out.with_name(args.out.name + ".partial") if args.out else None
    journal = Journal(partial, key)
    counts["truncated"] = fill(journal, articles, summarizer, args.max_tokens, args.batch_size)
    # an empty article, which no model has seen, has an empty summary
    lines = [journal.texts.get(number, "") + "\n" for number in range(len(articles))]
    if partial is None:
        sys.stdout.writelines(lines)
    else:
        _sidecar(args.out).unlink(missing_ok=True)  # of the run before: it does not vouch for what is written now
        with files.atomic(args.out, "w") as file:
            file.writelines(lines)
        with files.atomic(_sidecar(args.out), "w") as file:
            versions = manifest.versions()
            json.dump({"run": key, **recipe, "counts": counts, "versions": versions}, file, indent=2)
        partial.unlink()
    summary = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
    print(summary, file=sys.stderr)


def _sidecar(out: Path) -> Path:
    return out.with_name(out.name + ".json")


def _made_by(out: Path) -> str | None:
    try:
        return json.loads(_sidecar(out).read_text(encoding="utf-8")).get("run")
    except (OSError, ValueError):
        return None


def main(argv: list[str], prog: str) -> int | None:
    """`summarize CHECKPOINT DATA [FILE...]`."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="model.pt; several, separated by colons, are averaged in probability")
    parser.add_argument("data", type=Path, help="has dict.source.txt (or dict.txt), encoder.json and vocab.bpe")
    parser.add_argument("articles", type=Path, nargs="*", metavar="FILE", help="one article a line (default: stdin)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the summaries go (default: stdout)")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="cnndm", help="settings of a recipe")
    for name, kind in SETTINGS.items():
        defaults = ", ".join(f"{preset} {values[name]}" for preset, values in PRESETS.items())
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"instead of the preset's ({defaults})")
    parser.add_argument(
        "--bos",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="begin article and summary with <s>, as bart.sample of fairseq does, by which the published figures were "
        "generated; --no-bos generates as fairseq-generate and --eval-rouge do",
    )
    parser.add_argument("--bpe", type=Path, metavar="DIR", help="where encoder.json and vocab.bpe are, if not in DATA")
    parser.add_argument("--max-tokens", type=positive, default=16384, metavar="N", help="tokens per batch, padded")
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="articles per batch, at most")
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16"), help="default: fp16 on a GPU, fp32 on a CPU")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    args = parser.parse_args(argv)
    args.checkpoint = [Path(path) for path in args.checkpoint.split(":")]
    settings = dict(PRESETS[args.preset])
    settings.update({name: value for name in SETTINGS if (value := getattr(args, name)) is not None})
    run(args, settings)
    return 0
