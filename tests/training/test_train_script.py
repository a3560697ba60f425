"""scripts/train.sh and scripts/train.slurm themselves, on a tiny model: several machines, and going on."""

from __future__ import annotations

import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_training import TINY_MODEL, becoming, run_script

from rdrop_fairseq.__main__ import main

ROOT = Path(__file__).parents[2]
# fairseq's "wpb": target tokens per update, over all processes
UPDATE = re.compile(r"train_inner \| epoch (\d+): .*wpb=(\d+), bsz=(\d+), num_updates=(\d+)")
STAND_INS = {
    "scontrol": "echo 127.0.0.1; echo 127.0.0.2",
    # the task once per machine, both of them this one; the second one's output beside. Only the first is asked to stop
    "srun": '[[ $2 == --cpus-per-task=6 ]] || exit 9; shift 2; touch "$RDROP_STOP_FILE"\n'
    '"$@" & first=$!; RDROP_STOP_FILE= "$@" >"$0.second" 2>&1 || exit 1; wait $first',
}


def write_programs(folder: Path, bodies: dict[str, str]) -> None:
    """What stands in for Slurm's programs."""
    for name, body in bodies.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{body}\n", encoding="utf-8")
        (folder / name).chmod(stat.S_IRWXU)


def updates(log: str) -> list[tuple[int, ...]]:
    """(epoch, tokens, sentences, number) of each update in a log."""
    return [tuple(map(int, found)) for found in UPDATE.findall(log)]


TOO_OLD = dict.fromkeys(("python3", *(f"python3.{minor}" for minor in range(9, 13))), "exit 1")


@pytest.mark.parametrize("words", ["train.sh iwslt14_de_en_rdrop", "train.slurm iwslt14_de_en_rdrop", "gpu_check.sh"])
def test_without_a_fitting_python_it_ends_in_one_sentence(tmp_path: Path, words: str) -> None:
    """It went on to a nameless interpreter's venv, and its last advice was to install python3-venv."""
    write_programs(tmp_path, TOO_OLD)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "RDROP_VENV": str(tmp_path / "venv"), "SLURM_JOB_ID": "4711"}
    done = subprocess.run(
        ["bash", *f"scripts/{words}".split()], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    told = [line for line in done.stderr.splitlines() if "installing rdrop_fairseq" not in line]
    assert (done.returncode, told) == (
        1, ["error: no Python 3.9 to 3.12 found: install one, or name it in RDROP_BASE_PYTHON"]
    )  # fmt: skip


def test_a_complete_venv_serves_where_the_path_has_no_fitting_python(tmp_path: Path) -> None:
    """As in a job that was submitted without the module of the Python that made the venv."""
    (tmp_path / "venv/bin").mkdir(parents=True)
    write_programs(tmp_path, {**TOO_OLD, "venv/bin/python": f'exec "{sys.executable}" "$@"'})
    found = subprocess.run(
        ["bash", "-c", "source scripts/lib.sh; extras_of_config iwslt14_de_en_rdrop"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "RDROP_VENV": str(tmp_path / "venv")},
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert (found.returncode, found.stdout, found.stderr) == (0, "fairseq\n", "")


def test_two_machines_under_slurm_then_one_goes_on(tiny_data: Path, tmp_path: Path, warm_python: Path) -> None:
    """The 400 pairs make one batch: an update per epoch, the same one on two processes and on one. Both machines stop
    after the first, as one of them is asked to."""
    write_programs(tmp_path, STAND_INS)
    save = tmp_path / "a run"
    options = ["--", *TINY_MODEL, "--eval-bleu-args", "{}", "--log-interval", "1", "--no-epoch-checkpoints"]
    first = run_script(
        "train.slurm", "iwslt14_de_en_rdrop", tiny_data, "--save-dir", save, *options,
        "--max-epoch", 9, cwd=tmp_path, PATH=f"{tmp_path}:/usr/bin:/bin", SLURM_SUBMIT_DIR=str(ROOT),
        SLURM_JOB_ID="4711", SLURM_JOB_NODELIST="node[1-2]", SLURM_JOB_NUM_NODES="2",
        SLURM_CPUS_PER_TASK="6", PYTHON=str(warm_python),
    )  # fmt: skip
    both = first.stdout + first.stderr + (tmp_path / "srun.second").read_text(encoding="utf-8")
    assert first.returncode == 0, both
    assert "--rdzv-endpoint 127.0.0.1:24711" in both
    assert "2048 tokens x 2 devices x update-freq 1 = 4096 tokens per update" in both
    ((epoch, tokens, sentences, number),) = updates(both)  # by the first rank alone
    assert (epoch, sentences, number) == (1, 400, 1)
    assert both.count("asked to stop: saving") == 1  # other ranks print nothing, but have ended, too

    second = run_script(
        "train.sh", "iwslt14_de_en_rdrop", tiny_data, "--save-dir", save, *options, "--max-epoch", 2, cwd=tmp_path,
        PYTHON=str(warm_python),
    )  # fmt: skip
    assert second.returncode == 0, second.stderr
    assert "iwslt14_de_en_rdrop continues in" in second.stdout
    assert updates(second.stdout) == [(2, tokens, sentences, 2)]
    assert second.stdout in (save / "train.log").read_text(encoding="utf-8")
    assert (save / "checkpoint_best.pt").is_file()


@pytest.mark.parametrize("stops", [True, False], ids=["saved in time", "too slow"])
def test_slurm_requeues_a_job_whose_time_is_up(tmp_path: Path, stops: bool) -> None:
    """The signal reaches the batch script alone, which asks the training to stop and requeues when it has, or at last
    when four minutes are over (one second here)."""
    done = '"$RDROP_STOP_FILE"' if stops else f'"{tmp_path}/requeued"'
    bodies = {
        "scontrol": f'if [[ $1 == requeue ]]; then echo "$@" >>"{tmp_path}/requeued"; else echo here; fi',
        "srun": f'touch "{tmp_path}/running"; until [[ -e {done} ]]; do /bin/sleep 0.1; done; exit 7',
        "sleep": 'if [[ $1 == 240 ]]; then exec /bin/sleep 1; fi; exit 9',
    }
    write_programs(tmp_path, bodies)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHON": sys.executable, "SLURM_SUBMIT_DIR": str(ROOT)}
    environment |= {"SLURM_JOB_ID": f"4711{stops:d}", "SLURM_JOB_NODELIST": "here", "SLURM_JOB_NUM_NODES": "1"}
    command = [str(ROOT / "scripts" / "train.slurm"), "iwslt14_de_en_rdrop"]
    with subprocess.Popen(command, env=environment) as job:
        while not (tmp_path / "running").exists():
            assert job.poll() is None
            time.sleep(0.05)
        job.send_signal(signal.SIGUSR1)
        assert job.wait(timeout=60) == 7
    time.sleep(1.2 if stops else 0)  # the requeuing that was called off
    assert set((tmp_path / "requeued").read_text().splitlines()) == {f"requeue 4711{stops:d}"}
    assert not (ROOT / "outputs" / f".stop-4711{stops:d}").exists()


def test_the_run_takes_the_launchers_place(tmp_path: Path) -> None:
    """Status, signals and both streams are its own, shown and added to the log; a pipe to tee would lose the status.
    It starts with SIGUSR1 ignored, of which torchrun would die."""
    for _ in range(2):
        done = run_script(*becoming(tmp_path, "kill -s USR1 $$; echo out; echo err >&2; kill -s TERM $$"))
        assert done.returncode == -15
        assert re.fullmatch(r"# [-\d]+ [:\d]+  a job\n/bin/sh -c 'kill.*'\nout\nerr\n", done.stdout)
    assert (tmp_path / "train.log").read_text(encoding="utf-8").count("out\nerr\n") == 2


def test_the_log_goes_on_where_the_reader_leaves(tmp_path: Path) -> None:
    """`train ... | head -1`: far more is written afterwards than a pipe holds."""
    job = becoming(tmp_path, "echo first; sleep 1; seq 100000; echo last")
    done = run_script("/bin/bash", "-c", '"$0" "$@" | head -1; echo "${PIPESTATUS[0]}"', *job)
    assert done.stdout.splitlines()[-1] == "0", done.stderr
    deadline = time.monotonic() + 30  # the log's writer may be behind
    while not (log := (tmp_path / "train.log").read_text(encoding="utf-8")).endswith("last\n"):
        assert time.monotonic() < deadline, log[-200:]
        time.sleep(0.05)
    assert "\n100000\nlast\n" in log


def test_wrong_words_are_told_in_one_line(tmp_path: Path, capsys) -> None:
    words = ["iwslt14_de_en_rdrop", f"{tmp_path}/nowhere", "--save-dir", f"{tmp_path}/save", "--root", str(ROOT)]
    assert main(["train", *words]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: there is no directory {tmp_path}/nowhere: make it with scripts/prepare_iwslt14.sh")
    assert told.count("\n") == 1
    assert not (tmp_path / "save").exists()
