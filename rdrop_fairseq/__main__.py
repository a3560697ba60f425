"""`python -m rdrop_fairseq COMMAND ...`: what the shell scripts call. Each command lives in the module named here."""

from __future__ import annotations

import errno
import importlib
import sys
from typing import Optional

from rdrop_fairseq import stand_ins
from rdrop_fairseq.errors import UserError

# command -> (module with main(argv), what it does); modules are imported only when called, so a text filter never
# pays for importing torch. A command with a space is two words on the command line.
COMMANDS = {
    "tokenize": ("rdrop_fairseq.corpus.filters", "Moses tokenization, stdin to stdout"),
    "normalize": ("rdrop_fairseq.corpus.filters", "Moses punctuation normalization, stdin to stdout"),
    "lower": ("rdrop_fairseq.corpus.filters", "lowercase, stdin to stdout"),
    "detokenize": ("rdrop_fairseq.corpus.filters", "Moses detokenization, stdin to stdout"),
    "clean": ("rdrop_fairseq.corpus.clean", "drop pairs by length and ratio (two files in, two files out)"),
    "prepare demo": ("rdrop_fairseq.corpus.demo", "a small corpus from message catalogs"),
    "prepare verses": ("rdrop_fairseq.corpus.verses", "a small corpus of one narrow domain, Bible verses"),
    "prepare iwslt": ("rdrop_fairseq.corpus.iwslt", "IWSLT14 / IWSLT17"),
    "prepare wmt14": ("rdrop_fairseq.corpus.wmt14", "WMT14 En-De and En-Fr"),
    "prepare bisimcut": ("rdrop_fairseq.corpus.bidirectional", "both directions of a prepared corpus, for Bi-SimCut"),
    "prepare cnndm": ("rdrop_fairseq.corpus.cnndm", "CNN/DailyMail from the story archives"),
    "prepare model": ("rdrop_fairseq.corpus.pretrained_models", "a model that fairseq published: BART, RoBERTa"),
    "prepare summarization": ("rdrop_fairseq.corpus.summarization", "any {train,val,test}.{source,target}, XSum too"),
    "prepare wikitext103": ("rdrop_fairseq.corpus.wikitext", "WikiText-103 for language modelling"),
    "prepare glue": ("rdrop_fairseq.corpus.glue", "tasks of GLUE for RoBERTa"),
    "quickstart": ("rdrop_fairseq.training.quickstart", "data, R-Drop training, BLEU, five translations"),
    "doctor": ("rdrop_fairseq.checks.doctor", "is everything there for a real run of a benchmark?"),
    "train": ("rdrop_fairseq.training.launch", "fairseq-train from a YAML of configs/"),
    "average": ("rdrop_fairseq.scoring.average", "average checkpoints"),
    "score": ("rdrop_fairseq.scoring.score", "BLEU and chrF by every convention"),
    "compare": ("rdrop_fairseq.scoring.compare", "two systems, with significance"),
    "perplexity": ("rdrop_fairseq.scoring.perplexity", "perplexity of a language model, or of translations"),
    "perplexity compare": ("rdrop_fairseq.scoring.perplexity_compare", "two language models, with significance"),
    "rouge": ("rdrop_fairseq.scoring.rouge", "ROUGE with bootstrap intervals"),
    "summarize": ("rdrop_fairseq.summarizing.summarize", "summaries of text files or stdin"),
    "predict": ("rdrop_fairseq.understanding.predict", "classes of sentences; GLUE's submission files"),
    "glue": ("rdrop_fairseq.understanding.glue", "every task of GLUE over several seeds, and the paper's table"),
    "rehearse": ("rdrop_fairseq.checks.rehearse", "a benchmark on 2,000 real pairs, from its archives to scores"),
    "score-published": ("rdrop_fairseq.checks.score_published", "a released model against its published score"),
    "vision": ("rdrop_fairseq.vision.run", "fine-tune a Vision Transformer, plainly or with R-Drop; without fairseq"),
    "experiment": ("rdrop_fairseq.experiments.run", "does R-Drop help on small data of three tasks"),
    "ablate": ("rdrop_fairseq.ablation.ablate", "a grid of options over seeds, one table, one plot per axis"),
    "benchmark": ("rdrop_fairseq.benchmark.run", "time and memory beside other implementations"),
}

# A place that cannot be written or read, or has no room: no fault of the program.
PLACES = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOSPC, errno.EDQUOT}


def usage() -> str:
    """One line per command."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, (_, what) in COMMANDS.items()]
    return "usage: python -m rdrop_fairseq COMMAND ... (each takes --help)\n" + "\n".join(lines)


def main(argv: Optional[list[str]] = None) -> int:
    """Run one command; returns its exit status: 0, 1 for bad input, 2 for an unknown command."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] in (["-h"], ["--help"]):
        print(usage())
        return 0
    for words in (2, 1):
        name = " ".join(argv[:words])
        if len(argv) >= words and name in COMMANDS:
            module = importlib.import_module(COMMANDS[name][0])
            try:
                return module.main(argv[words:], prog=f"python -m rdrop_fairseq {name}") or 0
            except UserError as error:
                print(f"error: {error}", file=sys.stderr)
                return 1
            except BrokenPipeError:  # the reader of our output has gone (`| head`): nothing is wrong
                sys.stderr.close()
                return 141
            except OSError as error:
                if error.errno not in PLACES or not error.filename:
                    raise
                way_out = "give it rights or room, or name another path"
                print(f"error: {error.filename}: {error.strerror}: {way_out}", file=sys.stderr)
                return 1
    print(f"unknown command: {' '.join(argv[:2]) or '(none)'}\n{usage()}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    if stand_ins.asks_for_help(sys.argv[1:]):
        stand_ins.install()
    sys.exit(main())
