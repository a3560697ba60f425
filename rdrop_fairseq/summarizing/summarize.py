"""Summaries of articles, one a line, from files or stdin: in the order of the input, whatever the batches.

The settings are those of the published recipe (--preset), each of which has an option. With --out the run can be killed
at any time and started again: it goes on. Empty lines have empty summaries; bytes that are not UTF-8 become U+FFFD;
articles longer than the model reads lose their end. Each of these is counted, on stderr and in OUT.json.
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
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.summarizing.journal import Journal, Memory

if TYPE_CHECKING:
    from rdrop_fairseq.summarizing.summarizer import Summarizer

PRESETS = {name: published.decoding(name).options() for name in published.benchmarks(published.ROUGE.metric)}
SETTINGS = {"beam": int, "lenpen": float, "max_len_b": int, "min_len": int, "no_repeat_ngram_size": int}


def read(paths: Sequence[Path]) -> tuple[list[str], dict[str, int]]:
    """The articles of files (of stdin without any), one a line, and {"articles", "empty", "one_word", "not_utf8"}."""
    articles, bad = [], 0
    for data in _contents(paths):
        lines = data.split(b"\n")
        for line in lines[:-1] if lines[-1] == b"" else lines:
            text, utf8 = decode(line)
            articles.append(one_line(text))
            bad += not utf8
    words = [len(article.split()) for article in articles]
    return articles, {
        "articles": len(articles),
        "empty": words.count(0),
        "one_word": words.count(1),
        "not_utf8": bad,
    }


def _contents(paths: Sequence[Path]) -> list[bytes]:
    if not paths:
        return [sys.stdin.buffer.read()]
    try:
        return [path.read_bytes() for path in paths]
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}; give text, one article a line") from error


def fill(memory: Memory, articles: Sequence[str], summarizer: Summarizer, max_tokens: int, max_sentences: int) -> int:
    """Summarizes what is not in memory yet; returns how many articles were too long to be read whole."""
    from rdrop_fairseq.summarizing.summarizer import batches

    whole = {number: summarizer.encode(article) for number, article in enumerate(articles) if article}
    tokens = {number: summarizer.fit(article) for number, article in whole.items()}
    lengths = {number: len(article) for number, article in tokens.items() if number not in memory.texts}
    with tqdm(total=len(whole), initial=len(whole) - len(lengths), unit="articles", mininterval=1.0) as bar:
        for batch in batches(lengths, max_tokens, max_sentences):
            memory.add(dict(zip(batch, summarizer.summarize([tokens[number] for number in batch]))))
            bar.update(len(batch))
    return sum(len(tokens[number]) < len(whole[number]) + summarizer.bos for number in whole)


def line(memory: Memory, number: int) -> str:
    """A line of the output; an empty article, which no model has seen, has an empty one."""
    return memory.texts.get(number, "") + "\n"


def run(args: argparse.Namespace, settings: dict[str, Any]) -> None:
    """Everything from the articles to the output."""
    articles, counts = read(args.articles)
    # mtime and size stand for the content of the checkpoint, which takes seconds to read
    looks = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in args.checkpoint if path.exists()]
    recipe = {"settings": settings, "bos": args.bos, "checkpoints": looks, "precision": args.precision}
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
    if not args.out:
        memory = Memory()
        counts["truncated"] = fill(memory, articles, summarizer, args.max_tokens, args.batch_size)
        sys.stdout.writelines(line(memory, number) for number in range(len(articles)))
    else:
        with Journal(args.out.with_name(args.out.name + ".partial"), key) as journal:
            counts["truncated"] = fill(journal, articles, summarizer, args.max_tokens, args.batch_size)
            with files.atomic(args.out, "w") as file:
                file.writelines(line(journal, number) for number in range(len(articles)))
            with files.atomic(_sidecar(args.out), "w") as file:
                versions = manifest.versions()
                json.dump({"run": key, **recipe, "counts": counts, "versions": versions}, file, indent=2)
            journal.remove()
    told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
    print(told, file=sys.stderr)


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
        told = ", ".join(f"{preset} {values[name]}" for preset, values in PRESETS.items())
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"instead of the preset's ({told})")
    parser.add_argument(
        "--bos",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="begin article and summary with <s>, as bart.sample of fairseq does, by which the published figures were "
        "generated; --no-bos generates as fairseq-generate and --eval-rouge do",
    )
    parser.add_argument("--bpe", type=Path, metavar="DIR", help="where encoder.json and vocab.bpe are, if not in DATA")
    parser.add_argument("--max-tokens", type=int, default=16384, metavar="N", help="article tokens per batch, padded")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="articles per batch, at most")
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16"), help="default: fp16 on a GPU, fp32 on a CPU")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    args = parser.parse_args(argv)
    args.checkpoint = [Path(path) for path in args.checkpoint.split(":")]
    if args.max_tokens < 1 or args.batch_size < 1:
        raise UserError("--max-tokens and --batch-size must be at least 1")
    settings = dict(PRESETS[args.preset])
    settings.update({name: value for name in SETTINGS if (value := getattr(args, name)) is not None})
    run(args, settings)
    return 0
