"""The language modelling task: what it hands over, and input that fairseq answers by an assertion."""

from __future__ import annotations

from argparse import Namespace

import pytest
from tiny_models import make_dictionary

import rdrop_fairseq  # noqa: F401  (registers the task)
from rdrop_fairseq.errors import UserError
from rdrop_fairseq.tasks.language_modeling_rdrop import LanguageModelingRDropTask, check_cutoffs


@pytest.mark.parametrize("cutoffs", ["20000,60000", "30,20", "0,10", "10,10"])
@pytest.mark.parametrize("option", ["adaptive_softmax_cutoff", "adaptive_input_cutoff"])
def test_cutoffs_that_do_not_fit_the_dictionary(option: str, cutoffs: str) -> None:
    with pytest.raises(UserError, match=f"--{option.replace('_', '-')} .* does not fit a dictionary of 40 entries"):
        check_cutoffs(Namespace(adaptive_input=True, **{option: cutoffs}), 40)


@pytest.mark.parametrize("cutoffs", [None, "", "10,20", "10,40"])
def test_cutoffs_that_fit(cutoffs: str) -> None:
    check_cutoffs(Namespace(adaptive_softmax_cutoff=cutoffs), 40)
    check_cutoffs(Namespace(adaptive_input=False, adaptive_input_cutoff="50,60"), 40)


def test_only_the_next_word_is_predicted() -> None:
    task = LanguageModelingRDropTask(Namespace(), make_dictionary(), targets=["self", "future"])
    with pytest.raises(UserError, match="leave out --self-target"):
        task.build_model(Namespace())
    assert task.hands_over_num_updates
