"""`python -m rdrop_fairseq`: what is not a command is told; --help of all commands is in test_help.py."""

from __future__ import annotations

import errno
import importlib
import os
import subprocess
import sys

import pytest

from rdrop_fairseq import __main__ as cli
from rdrop_fairseq.errors import UserError


def test_unknown_command_lists_the_known_ones(capsys):
    assert cli.main(["prepare", "nothing"]) == 2
    printed = capsys.readouterr().err
    assert "unknown command: prepare nothing" in printed
    assert "prepare demo" in printed


def test_bad_input_is_one_line_and_status_1(monkeypatch, capsys):
    def fail(argv, prog):
        raise UserError("no file a.txt: name one that exists")

    monkeypatch.setattr(importlib.import_module("rdrop_fairseq.corpus.filters"), "main", fail)
    assert cli.main(["tokenize"]) == 1
    assert capsys.readouterr().err == "error: no file a.txt: name one that exists\n"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EEXIST, errno.EDQUOT])
def test_a_place_that_cannot_be_written_is_one_line_and_status_1(number, monkeypatch, capsys):
    def fail(argv, prog):
        raise OSError(number, os.strerror(number), "/out/of reach")

    monkeypatch.setattr(importlib.import_module("rdrop_fairseq.corpus.filters"), "main", fail)
    assert cli.main(["tokenize"]) == 1
    said = f"error: /out/of reach: {os.strerror(number)}: give it rights or room, or name another path\n"
    assert capsys.readouterr().err == said


def test_another_error_of_the_system_stays_what_it_is(monkeypatch):
    def fail(argv, prog):
        raise PermissionError(errno.EPERM, "no signal to that process")

    monkeypatch.setattr(importlib.import_module("rdrop_fairseq.corpus.filters"), "main", fail)
    with pytest.raises(PermissionError):
        cli.main(["tokenize"])


def test_text_filters_import_neither_torch_nor_fairseq():
    code = "import sys; sys.argv[0] = '-m'; import rdrop_fairseq.corpus.filters; "
    code += "print({'torch', 'fairseq'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_a_reader_that_goes_away_is_no_error():
    filter_process = subprocess.run(
        f"yes 'one line' | head -200000 | {sys.executable} -m rdrop_fairseq lower | head -1; echo ${{PIPESTATUS[2]}}",
        shell=True, executable="/bin/bash", capture_output=True, text=True,
    )  # fmt: skip
    assert filter_process.stdout == "one line\n141\n"
    assert "Traceback" not in filter_process.stderr
