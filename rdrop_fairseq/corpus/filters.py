"""The Moses steps as filters from stdin to stdout: exactly one line out for each line in."""

from __future__ import annotations

import argparse
import sys

from rdrop_fairseq.corpus import lines, moses
from rdrop_fairseq.corpus.parallel import Chain, LineFilter


def tokenize(
    lang: str, aggressive: bool = False, normalize: bool = False, lower: bool = False, escape: bool = True
) -> Chain:
    """[normalize-punctuation.perl | remove-non-printing-char.perl |] tokenizer.perl [| lowercase.perl]."""
    steps: list[LineFilter] = [moses.Normalizer(lang), moses.remove_nonprinting] if normalize else []
    steps.append(moses.Tokenizer(lang, aggressive, escape))
    if lower:
        steps.append(moses.lowercase)
    return Chain(*steps)


def main(argv: list[str], prog: str) -> None:
    """The commands tokenize, normalize, lower and detokenize; the last word of `prog` says which."""
    command = prog.split()[-1]
    options = _parser(command, prog).parse_args(argv)
    step: LineFilter
    if command == "tokenize":
        if options.lang not in moses.languages():
            print(f"no non-breaking prefixes for {options.lang}: English ones are used, as in Moses", file=sys.stderr)
        step = tokenize(options.lang, options.aggressive, options.normalize, options.lower, not options.no_escape)
    elif command == "normalize":
        step = moses.Normalizer(options.lang)
        if options.remove_nonprinting:
            step = Chain(step, moses.remove_nonprinting)
    elif command == "lower":
        step = moses.lowercase
    else:
        step = moses.Detokenizer(options.lang)
    lines.map_streams(step, [sys.stdin.buffer], [sys.stdout.buffer], options.workers, ["standard input"])


def _parser(command: str, prog: str) -> argparse.ArgumentParser:
    described = {
        "tokenize": "Tokenize as Moses' tokenizer.perl does, line by line from standard input to standard output.",
        "normalize": "Normalize punctuation as Moses' normalize-punctuation.perl does.",
        "lower": "Lowercase as Moses' lowercase.perl does.",
        "detokenize": "Detokenize as Moses' detokenizer.perl does.",
    }
    parser = argparse.ArgumentParser(prog=prog, description=described[command])
    if command != "lower":
        parser.add_argument("--lang", required=True, metavar="L", help="language of the text, e.g. de")
    if command == "tokenize":
        parser.add_argument("--aggressive", action="store_true", help="split hyphens: word @-@ word (-a)")
        parser.add_argument(
            "--normalize",
            action="store_true",
            help="before it, normalize punctuation and turn non-printing characters into spaces",
        )
        parser.add_argument("--lower", action="store_true", help="after it, lowercase")
        parser.add_argument("--no-escape", action="store_true", help="leave & | < > ' \" [ ] as they are")
    if command == "normalize":
        parser.add_argument(
            "--remove-nonprinting", action="store_true", help="after it, turn non-printing characters into spaces"
        )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (1)")
    return parser
