"""scripts/train.sh and scripts/train.slurm themselves, on a tiny model: several machines, and going on."""

from __future__ import annotations

import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

from rdrop_fairseq.__main__ import main

ROOT = Path(__file__).parents[2]
TRAIN = ROOT / "scripts" / "train.sh"
# fairseq's "wpb": target tokens per update, over all processes
UPDATE = re.compile(r"train_inner \| epoch (\d+): .*wpb=(\d+), bsz=(\d+), num_updates=(\d+)")
STAND_INS = {
    "scontrol": "echo 127.0.0.1; echo 127.0.0.2",
    # the task once per machine, both of them this one; the second one's output beside
    "srun": '[[ $2 == --cpus-per-task=6 ]] || exit 9; shift 2\n'
    '"$@" & first=$!; "$@" >"$0.second" 2>&1 || exit 1; wait $first',
}


def updates(log: str) -> list[tuple[int, ...]]:
    """(epoch, tokens, sentences, number) of each update in a log."""
    return [tuple(map(int, found)) for found in UPDATE.findall(log)]


def test_two_machines_under_slurm_then_one_goes_on(
    tiny_data: Path, tmp_path: Path, tiny_model: list[str], script
) -> None:
    """The 400 pairs make one batch: an update per epoch, the same one on two processes and on one."""
    for name, body in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{body}\n", encoding="utf-8")
        (tmp_path / name).chmod(stat.S_IRWXU)
    save = tmp_path / "a run"
    options = ["--", *tiny_model, "--eval-bleu-args", "{}", "--log-interval", "1", "--no-epoch-checkpoints"]
    first = script(
        ROOT / "scripts" / "train.slurm", "iwslt14_de_en_rdrop", tiny_data, "--save-dir", save, *options,
        "--max-epoch", 1, cwd=tmp_path, PATH=f"{tmp_path}:/usr/bin:/bin", SLURM_SUBMIT_DIR=str(ROOT),
        SLURM_JOB_ID="4711", SLURM_JOB_NODELIST="node[1-2]", SLURM_JOB_NUM_NODES="2",
        SLURM_CPUS_PER_TASK="6",
    )  # fmt: skip
    both = first.stdout + first.stderr + (tmp_path / "srun.second").read_text(encoding="utf-8")
    assert first.returncode == 0, both
    assert "--rdzv-endpoint 127.0.0.1:24711" in both
    assert "2048 tokens x 2 devices x update-freq 1 = 4096 tokens per update" in both
    ((epoch, tokens, sentences, number),) = updates(both)  # by the first rank alone
    assert (epoch, sentences, number) == (1, 400, 1)

    second = script(
        TRAIN, "iwslt14_de_en_rdrop", tiny_data, "--save-dir", save, *options, "--max-epoch", 2, cwd=tmp_path
    )
    assert second.returncode == 0, second.stderr
    assert "iwslt14_de_en_rdrop continues in" in second.stdout
    assert updates(second.stdout) == [(2, tokens, sentences, 2)]
    assert second.stdout in (save / "train.log").read_text(encoding="utf-8")
    assert (save / "checkpoint_best.pt").is_file()


def test_slurm_requeues_a_job_whose_time_is_up(tmp_path: Path) -> None:
    """The signal reaches the batch script alone; its status stays that of the step."""
    bodies = {
        "scontrol": f'if [[ $1 == requeue ]]; then echo "$@" >>"{tmp_path}/requeued"; else echo here; fi',
        "srun": f'touch "{tmp_path}/running"; until [[ -e "{tmp_path}/requeued" ]]; do sleep 0.1; done; exit 7',
    }
    for name, body in bodies.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{body}\n", encoding="utf-8")
        (tmp_path / name).chmod(stat.S_IRWXU)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHON": sys.executable, "SLURM_SUBMIT_DIR": str(ROOT)}
    environment |= {"SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "here", "SLURM_JOB_NUM_NODES": "1"}
    command = [str(ROOT / "scripts" / "train.slurm"), "iwslt14_de_en_rdrop"]
    with subprocess.Popen(command, env=environment) as job:
        while not (tmp_path / "running").exists():
            assert job.poll() is None
            time.sleep(0.05)
        job.send_signal(signal.SIGUSR1)
        assert job.wait(timeout=60) == 7
    assert (tmp_path / "requeued").read_text() == "requeue 4711\n"


def test_the_run_takes_the_launchers_place(tmp_path: Path, script) -> None:
    """Status, signals and both streams are its own, shown and added to the log; a pipe to tee would lose the status."""
    job = f"""
import sys
sys.argv[0] = "-m"  # as under `python -m`: the package does not import fairseq
from pathlib import Path
from rdrop_fairseq.training.launch import Job, become
log = Path({str(tmp_path / "save" / "train.log")!r})
become(Job(["/bin/sh", "-c", "echo out; echo err >&2; kill -s TERM $$"], log.parent, log, "a job"))
"""
    for _ in range(2):
        done = script(sys.executable, "-c", job)
        assert done.returncode == -15
        assert re.fullmatch(r"# [-\d]+ [:\d]+  a job\n/bin/sh -c 'echo out.*'\nout\nerr\n", done.stdout)
    assert (tmp_path / "save" / "train.log").read_text(encoding="utf-8").count("out\nerr\n") == 2


def test_wrong_words_are_told_in_one_line(tmp_path: Path, capsys) -> None:
    words = ["iwslt14_de_en_rdrop", f"{tmp_path}/nowhere", "--save-dir", f"{tmp_path}/save", "--root", str(ROOT)]
    assert main(["train", *words]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: there is no directory {tmp_path}/nowhere: make it with scripts/prepare_iwslt14.sh")
    assert told.count("\n") == 1
    assert not (tmp_path / "save").exists()
