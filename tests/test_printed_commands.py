"""Every command that README.md and the heads of configs print: its script exists and takes the options written there.

Nothing is run: the command's own parser is asked, up to the point where it would start to work.
"""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from rdrop_fairseq.__main__ import COMMANDS
from rdrop_fairseq.training import config

ROOT = Path(__file__).parents[1]
CALL = re.compile(r"^(?:exec )?(?:rdrop|\"\$PYTHON\" -m rdrop_fairseq) (.+)$", re.MULTILINE)


def commands() -> list[str]:
    """Lines of the documents that call a script, comments cut off; those joined by && apart."""
    lines = re.findall(r"^ {4}(scripts/.+)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        head = path.read_text(encoding="utf-8").split("\n\n")[0]
        lines += re.findall(r"^# {3}(scripts/.+)$", head, re.MULTILINE)
    parts = [part for line in lines for part in re.sub(r"\s+#.*$", "", line).split("&&")]
    return sorted({part.strip() for part in parts})


class ParsedError(Exception):
    """The parser took the words."""


@pytest.mark.parametrize("command", commands())
def test_a_printed_command_is_taken(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script, *words = shlex.split(command)
    text = (ROOT / script).read_text(encoding="utf-8")
    call = CALL.search(text)
    if call is None:
        assert script in ("scripts/test.sh", "scripts/experiment.sh"), f"{script} calls no command"
        return
    fixed = call[1].replace('"$@"', "").replace("$ROOT", str(ROOT)).split()
    if script.endswith("score_rouge.sh"):
        fixed, words = ["rouge"], ["--hyp", words[0], "--ref", words[1], *words[2:]]
    name = next(name for name in (" ".join(fixed[:2]), fixed[0]) if name in COMMANDS)
    given = [*(word.strip('"') for word in fixed[len(name.split()) :]), *words]

    parsed: list[argparse.Namespace] = []

    def stop(parse: Any) -> Any:
        def wrapped(self: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
            parsed.append(parse(self, *args, **kwargs))
            raise ParsedError

        return wrapped

    module = importlib.import_module(COMMANDS[name][0])
    for method in ("parse_args", "parse_intermixed_args"):
        monkeypatch.setattr(argparse.ArgumentParser, method, stop(getattr(argparse.ArgumentParser, method)))
    with pytest.raises(ParsedError):
        module.main(given, prog=name)
    if name == "train":  # and the experiment exists
        assert config.read_config(config.find_config(parsed[0].config, ROOT), parsed[0].config)


def test_the_documents_print_commands() -> None:
    scripts = {command.split()[0] for command in commands()}
    assert {"scripts/quickstart.sh", "scripts/train.sh", "scripts/score_bleu.sh", "scripts/prepare_cnndm.sh"} <= scripts
