"""Unknown keys and options are refused by fairseq's own parser, before data or model are touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.training import options
from rdrop_fairseq.training.config import read_config

BASE = """\
task: translation
arch: transformer_iwslt_de_en
criterion: label_smoothed_cross_entropy
optimizer: adam
lr-scheduler: inverse_sqrt
lr: 5e-4
max-tokens: 4096
"""


def checked(folder: Path, more: str = "", extra: tuple[str, ...] = (), base: str = BASE):
    """`options.check` of BASE and more; the data directory does not exist, so nothing can have been loaded."""
    path = folder / "mine.yaml"
    path.write_text(base + more, encoding="utf-8")
    return options.check(read_config(path), list(extra), str(folder / "nowhere"))


def test_options_reach_fairseq_as_written(tmp_path: Path) -> None:
    more = """\
share-all-embeddings: true
eval-bleu: false
eval-bleu-args: '{"beam": 5, "lenpen": 0.6}'
eval-bleu-remove-bpe: true
warmup-init-lr: -1
adam-betas: (0.9, 0.98)
"""
    words, seen = checked(tmp_path, more)
    assert words[words.index("--share-all-embeddings") :] == [
        *("--share-all-embeddings", "--eval-bleu-args", '{"beam": 5, "lenpen": 0.6}', "--eval-bleu-remove-bpe"),
        *("--warmup-init-lr=-1", "--adam-betas", "(0.9, 0.98)"),
    ]
    assert seen.share_all_embeddings is True
    assert seen.eval_bleu is False
    assert seen.eval_bleu_remove_bpe == "@@ "  # fairseq's constant for the bare option
    assert seen.warmup_init_lr == -1
    assert seen.lr == [5e-4]


def test_an_extra_option_takes_the_place_of_the_key(tmp_path: Path) -> None:
    words, seen = checked(tmp_path, extra=("--lr", "1e-3", "--max-tokens=512"))
    assert "--lr" not in words
    assert "--max-tokens" not in words
    assert (seen.lr, seen.max_tokens) == ([1e-3], 512)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("max-tokns: 1\n", r"mine.yaml, line 8: unknown key max-tokns; did you mean max-tokens\?"),
        ("tokens-per-updat: 1\n", r"line 8: unknown key tokens-per-updat; did you mean tokens-per-update\?"),
        ("rdrop_alpha: 5\n", r"line 8: unknown key rdrop_alpha"),  # not an option of this criterion
        ("share-all-embeddings: yes\n", r"line 8: share-all-embeddings is true or false"),
        ("max-update: many\n", r"mine.yaml: argument --max-update: invalid int value: 'many'"),
        ("ddp-backend: pytorch\n", r"line 8: there is no ddp-backend pytorch; did you mean pytorch_ddp\?"),
    ],
)
def test_a_wrong_key_is_named_with_the_nearest(tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        checked(tmp_path, more)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("transformer_iwslt_de_en", "transformer_iwslt_de_em", r"no arch \S+; did you mean transformer_iwslt_de_en\?"),
        ("label_smoothed_cross_entropy", "label_smoothed_cros_entropy", r"no criterion .*mean label_smoothed_cross_en"),
        ("task: translation", "task: translaton", r"line 1: there is no task translaton; did you mean translation\?"),
        ("lr: 5e-4", "lr: fast", r"argument --lr: invalid value: 'fast'"),
        ("criterion: label_smoothed_cross_entropy\n", "", r"the key criterion is missing"),
    ],
)
def test_a_wrong_value_is_named_with_the_nearest(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        checked(tmp_path, base=BASE.replace(old, new))


def test_a_missing_key_may_be_given_on_the_command_line(tmp_path: Path) -> None:
    base = BASE.replace("criterion: label_smoothed_cross_entropy\n", "")
    for extra in (("--criterion", "cross_entropy"), ("--criterion=cross_entropy",)):
        assert checked(tmp_path, extra=extra, base=base)[1].criterion == "cross_entropy"


def test_a_wrong_extra_option_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no option --max-updates; did you mean --max-update\?"):
        checked(tmp_path, extra=("--max-updates", "4"))


def test_bf16_asks_for_no_tpu(tmp_path: Path) -> None:
    """fairseq's parser sets tpu beside bf16, and its trainer then looks for torch_xla."""
    _, seen = checked(tmp_path, extra=("--bf16",))
    assert (seen.bf16, seen.tpu) == (True, False)


def test_options_of_another_criterion_come_with_it(tmp_path: Path) -> None:
    """`-- --criterion X` brings X's options along, as in fairseq-train."""
    alpha = ("--criterion", "label_smoothed_cross_entropy_with_rdrop", "--rdrop-alpha", "5")
    _, seen = checked(tmp_path, extra=alpha)
    assert float(seen.rdrop_alpha) == 5
    with pytest.raises(UserError, match="no option --rdrop-alpha"):
        checked(tmp_path, extra=alpha[2:])
