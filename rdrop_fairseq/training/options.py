"""Check options with fairseq-train's own parser before anything is loaded."""

from __future__ import annotations

import argparse
import difflib
import importlib
import logging
from collections.abc import Iterable
from typing import NoReturn, Optional

import rdrop_fairseq
from rdrop_fairseq.errors import UserError, install
from rdrop_fairseq.training.config import OWN_KEYS, Experiment


class OptionError(Exception):
    """argparse's complaint, raised instead of a usage text and an exit."""


def load_plugin() -> None:
    """Register this package's tasks and criteria, as --user-dir does in fairseq-train."""
    logging.getLogger("fairseq").setLevel(logging.WARNING)  # modules that miss something optional log that
    try:
        importlib.import_module("fairseq")
    except ImportError:
        raise UserError(f"fairseq is not installed: {install('fairseq')}") from None
    rdrop_fairseq.register()


def config_arguments(experiment: Experiment, known: dict[str, argparse.Action]) -> list[str]:
    """The config's options as command line words. A flag takes true or false, everything else its value."""
    words = []
    for entry in experiment.options:
        action = known[f"--{entry.key}"]
        is_true, is_false = entry.value.lower() == "true", entry.value.lower() == "false"
        if action.nargs == 0:
            if not (is_true or is_false):
                raise UserError(f"{experiment.path}, line {entry.line}: {entry.key} is true or false")
            if is_true != (action.default is True):  # a model's flags have the default SUPPRESS
                words.append(f"--{entry.key}")
        elif action.nargs == "?" and action.const is not None and is_true:
            words.append(f"--{entry.key}")
        elif entry.value.startswith("-"):  # `--opt -1` would be taken for an option
            words.append(f"--{entry.key}={entry.value}")
        else:
            words += [f"--{entry.key}", entry.value]
    return words


def check(experiment: Experiment, extra: list[str], data: str) -> tuple[list[str], argparse.Namespace]:
    """Check config and extra options against fairseq's parser.

    Returns the config's words, those overridden by `extra` left out, and everything as fairseq will see it.
    Raises UserError naming the key and the nearest known one; nothing of data or model is read.
    """
    load_plugin()
    values = {entry.key for entry in experiment.options}
    overrides = names(extra)
    for name in ("arch", "task", "criterion"):
        if name not in values and f"--{name}" not in overrides:
            raise UserError(f"{experiment.path}: the key {name} is missing")
    known = _known_options(experiment, extra)
    for entry in experiment.options:
        if f"--{entry.key}" not in known:
            place = f"{experiment.path}, line {entry.line}: unknown key {entry.key}"
            raise UserError(place + _nearest(entry.key, [*(name[2:] for name in known), *OWN_KEYS]))
    for option in overrides:
        if option not in known:
            raise UserError(f"fairseq-train has no option {option}" + _nearest(option, known))
    kept = [entry for entry in experiment.options if known[f"--{entry.key}"].dest not in
            {known[option].dest for option in overrides}]
    words = config_arguments(Experiment(experiment.path, tuple(kept), experiment.own), known)
    return words, parse([data, *words, *extra], str(experiment.path))


def check_criterion(seen: argparse.Namespace) -> None:
    """Raises UserError for values that a criterion of this package would refuse once the training has begun.

    It is built for a stand-in of the task: no data are read.
    """
    from fairseq.criterions import CRITERION_REGISTRY
    from fairseq.data import Dictionary
    from fairseq.tasks import TASK_REGISTRY

    from rdrop_fairseq.criterions.multi_view import MultiView

    criterion, task = CRITERION_REGISTRY[seen.criterion], TASK_REGISTRY[seen.task]
    if issubclass(criterion, MultiView):
        parts = dict.fromkeys(("source_dictionary", "target_dictionary"), Dictionary())
        hands_over = getattr(task, "hands_over_num_updates", False)
        criterion.build_criterion(seen, type(task.__name__, (), {**parts, "hands_over_num_updates": hands_over})())


def parse(words: list[str], source: str) -> argparse.Namespace:
    """fairseq's view of a whole command line. Raises UserError with `source` in front of argparse's words."""
    from fairseq import options

    try:
        return options.parse_args_and_arch(_quiet_parser(), input_args=words)
    except OptionError as error:
        raise UserError(f"{source}: {error}") from None


def _known_options(experiment: Experiment, extra: list[str]) -> dict[str, argparse.Action]:
    """Every option of fairseq-train for the config's task, architecture, criterion, optimizer and scheduler."""
    from fairseq import options

    parser = _quiet_parser()
    words = ["DATA"]  # required by the task; not looked at
    for entry in experiment.options:
        action = _actions(parser).get(f"--{entry.key}")
        # only the general options with a choice (--arch, --task, --criterion, ...) bring further options with them
        if action is not None and action.choices is not None:
            if entry.value not in action.choices:
                place = f"{experiment.path}, line {entry.line}: there is no {entry.key} {entry.value}"
                raise UserError(place + _nearest(entry.value, action.choices))
            words += [f"--{entry.key}", entry.value]
    try:
        options.parse_args_and_arch(parser, input_args=[*words, *extra], parse_known=True)
    except OptionError as error:
        raise UserError(f"{experiment.path}: {error}") from None
    return _actions(parser)


def _quiet_parser() -> argparse.ArgumentParser:
    """fairseq-train's parser, raising OptionError where it would print a usage of 400 options and exit."""
    from fairseq import options

    parser = options.get_training_parser()

    def error(message: str) -> NoReturn:
        raise OptionError(message.replace("<lambda> ", ""))

    setattr(parser, "error", error)  # noqa: B010  (mypy does not let a method be assigned to)
    return parser


def _actions(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    return {name: action for action in parser._actions for name in action.option_strings if name.startswith("--")}


def names(words: list[str]) -> list[str]:
    """The options among `words`, without their values."""
    return [word.partition("=")[0] for word in words if word.startswith("--")]


def _nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the nearest of `known`, by spelling."""
    match: Optional[str] = next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)), None)
    return f"; did you mean {match}?" if match else "; `fairseq-train --help` lists what there is"
