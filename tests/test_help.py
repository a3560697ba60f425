"""`--help` of every command and script: from the standard library alone, installing nothing, at once."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from rdrop_fairseq.__main__ import COMMANDS
from rdrop_fairseq.benchmark.run import OTHERS
from rdrop_fairseq.stand_ins import asks_for_help
from rdrop_fairseq.training.extras import extras

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(
    path for path in (ROOT / "scripts").iterdir() if path.suffix in (".sh", ".slurm") and path.name != "lib.sh"
)
# No help comes from a module that is not in the standard library: -I -S knows no site-packages.
EVERY_COMMAND = """
import contextlib, io, json, sys
sys.path.insert(0, sys.argv[1])
commands = json.loads(sys.argv[2])
sys.argv = ["-m"]
from rdrop_fairseq import __main__, stand_ins
stand_ins.install()
answers = {}
for command in commands:
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            status = __main__.main([*command.split(), "--help"])
    except SystemExit as stop:
        status = stop.code
    answers[command] = [status, printed.getvalue()]
print(json.dumps(answers))
"""


def test_every_command_tells_its_options_without_anything_installed() -> None:
    commands = [*COMMANDS, *(f"benchmark {name}" for name in OTHERS)]
    words = [sys.executable, "-I", "-S", "-c", EVERY_COMMAND, str(ROOT), json.dumps(commands)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert list(answers) == commands
    for command, (status, text) in answers.items():
        assert status == 0, command
        assert text.startswith("usage: "), command
        assert command in text, command
        assert "StandIn" not in text, command


def test_every_script_says_what_it_does_and_installs_nothing(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "PYTHONPATH")}
    environment |= {"RDROP_VENV": str(tmp_path / "venv"), "SLURM_SUBMIT_DIR": str(ROOT)}
    for script in SCRIPTS:
        started = time.monotonic()
        done = subprocess.run(
            [script, "--help"], cwd=tmp_path, env=environment, capture_output=True, text=True, encoding="utf-8"
        )
        assert done.returncode == 0, f"{script.name}: {done.stderr}"
        head = script.read_text(encoding="utf-8").splitlines()[1].removeprefix("# ")
        assert done.stdout.startswith(head + "\n"), script.name
        assert "rdrop " not in script.read_text(encoding="utf-8") or "usage: " in done.stdout, script.name
        if script.name.startswith("prepare_"):  # disk and time, before either is spent
            told = "\n".join(done.stdout.split("\n\n")[0].splitlines()[:3])
            assert re.search(r"\d [MG]B", told), script.name
            assert re.search(r"hours?|minutes?|seconds", told), script.name
        assert time.monotonic() - started < 10, script.name  # 0.2 s on a quiet machine; torch and fairseq take longer
    assert list(tmp_path.iterdir()) == []


def test_scripts_find_the_project_where_cdpath_is_set() -> None:
    """cd prints the directory that it finds by CDPATH."""
    words = ["bash", "-c", 'source scripts/lib.sh; printf %s "$ROOT"']
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, "CDPATH": "."}, capture_output=True, text=True)
    assert done.stdout == str(ROOT)


def test_words_after_two_dashes_are_another_programs() -> None:
    assert asks_for_help(["train", "-h"])
    assert asks_for_help(["train", "a", "--help", "--", "--x"])
    assert not asks_for_help(["train", "a", "--", "--help"])


def test_a_config_names_the_extras_that_it_needs() -> None:
    assert extras(["cnndm_bart_large_rdrop", "--seed", "2"], ROOT) == ["fairseq", "summarization"]
    assert extras(["iwslt14_de_en_rdrop", "--", "--task", "x"], ROOT) == ["fairseq"]
    assert extras(["no_such_config"], ROOT) == ["fairseq"]
