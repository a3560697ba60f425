"""Every command that a document prints is run as it is printed, in miniature: by this file, or by the test named here.

A folder stands for the checkout, DATA_MIRROR for all hosts; its archives are small, the models tiny. What makes them
so is appended to the printed command (SMALL, by its script and config); words in capitals are filled in (`filled`).
"""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest
import small_corpora
import small_glue
import small_news
import tiny_roberta
from printed import ROOT, by_document, commands
from tiny_training import TINY_MODEL

# Commands that are run elsewhere: pattern, the test's file, and what of the command it has.
ELSEWHERE = [
    (r"scripts/quickstart\.sh", "tests/end_to_end/test_quickstart.py", 'main(["quickstart"'),
    (r"scripts/quickstart\.sh --compare", "tests/end_to_end/test_quickstart.py", '"--compare"'),
    (r"scripts/quickstart\.sh --compare --hours 2", "tests/end_to_end/test_quickstart.py", "root=ROOT, hours="),
    (r"scripts/test\.sh", ".ci/run", "scripts/test.sh"),
    (r"scripts/rehearse\.sh iwslt14_de_en", "tests/checks/test_rehearse.py", 'rehearsal(tmp_path, "iwslt14_de_en")'),
    (r"scripts/score_published\.sh wmt14_en_de", "tests/checks/test_score_published.py",
     '"score-published", "wmt14_en_de"'),
    (r"scripts/ablate\.sh .*", "tests/ablation/test_ablate.py", 'return ["ablate", str(data)'),
    (r"scripts/experiment_tasks\.sh", "tests/experiments/test_trainings.py", 'words = ["experiment", "--seeds"'),
    (r"scripts/experiment_tasks\.sh digits", "tests/experiments/test_trainings.py", 'main(["experiment", "digits"'),
    (r"scripts/glue\.sh", "tests/end_to_end/test_glue.py", '"rdrop_fairseq", "glue"'),
    (r"scripts/gpu_check\.sh.*", "tests/benchmark/test_gpu_check.py", "gpu_check.main(words"),
    (r"pip install .*", "scripts/lib.sh", "-m pip install --quiet --disable-pip-"),
    (r"fairseq-hydra-train .*", "tests/training/test_hydra.py", '"fairseq-hydra-train"'),
    (r"sbatch .*", "tests/training/test_train_script.py", '"train.slurm"'),
    (r"python -m rdrop_fairseq benchmark", "tests/benchmark/test_run.py", "run.main([*TINY"),
    (r".* benchmark steps.*", "tests/benchmark/test_run.py", '"steps"'),
    (r".* benchmark variants.*", "tests/benchmark/test_variants.py", "variants"),
    (r".* benchmark memory.*", "tests/benchmark/test_memory.py", "memory"),
    (r".* benchmark text.*", "tests/benchmark/test_text.py", "text"),
    (r".* benchmark lm.*", "tests/benchmark/test_language_models.py", "language_models"),
]  # fmt: skip


def elsewhere(command: str) -> bool:
    """Whether a command is run elsewhere."""
    return any(re.fullmatch(pattern, command) for pattern, _, _ in ELSEWHERE)


def test_what_is_run_elsewhere_is() -> None:
    for pattern, file, part in ELSEWHERE:
        assert any(re.fullmatch(pattern, command) for command in commands()), pattern
        assert part in (ROOT / file).read_text(encoding="utf-8"), pattern


# Which of the groups below a command belongs to: the first whose pattern it has.
GROUPS = {
    "iwslt14": r"iwslt|bisimcut|compare\.sh|^fairseq-train",
    "wmt14_en_de": r"wmt14.en.de",
    "wmt14_en_fr": r"wmt14.en.fr",
    "cnndm": r"cnndm|CONFIG -- --eval-rouge",
    "xsum": r"xsum",
    "glue": r"glue|predict\.sh",
    "wikitext103": r"wikitext103",
    "vision": r"train_vit",
    "suite": r"scripts/test\.sh",
    "experiment": r"experiment\.sh",
}


def of_group(group: str) -> list[str]:
    """Its commands in the order of the documents, configs first."""
    order = sorted(by_document().items(), key=lambda entry: not entry[0].startswith("configs/"))
    every = dict.fromkeys(command for _, several in order for command in several)
    return [each for each in every if not elsewhere(each) and group == group_of(each)]


def group_of(command: str) -> str:
    return next((name for name, pattern in GROUPS.items() if re.search(pattern, command)), "")


def test_nothing_is_printed_and_not_run() -> None:
    assert not [command for command in commands() if not elsewhere(command) and not group_of(command)]
    found = {command.split()[0] for command in commands()}
    assert {"scripts/train.sh", "scripts/score_bleu.sh", "scripts/doctor.sh", "fairseq-train", "sbatch"} <= found


SIZES = " ".join(TINY_MODEL)
BART = " ".join(small_news.SIZES) + " --num-workers 0"
DECODER = "--decoder-layers 1 --decoder-attention-heads 2 --decoder-embed-dim 16 --decoder-ffn-embed-dim 16"
ROBERTA = "--encoder-layers 1 --encoder-attention-heads 2 --encoder-embed-dim 16 --encoder-ffn-embed-dim 16"
VIT = "--updates 2 --warmup-updates 1 --model-args "
VIT += shlex.quote('{"patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2}')
IMAGES = "--dataset imagefolder --data images --classes 2 --image-size 16 --init random --workers 0 --batch 4"
# (pattern of a command, its own options, those of the program behind --): the first that fits is appended
SMALL = [
    (r"prepare_(iwslt14|wmt14_\w+)\.sh", "--bpe-operations 150 --workers 1", ""),
    (r"prepare_(cnndm|summarization|glue|wikitext103)\.sh", "--workers 1", ""),
    (r"prepare_bisimcut\.sh", "", ""),
    (r"--eval-rouge", "--save-dir outputs/rouge", f"{BART} --max-update 1 --eval-rouge-args {{}} "
     "--truncate-source-length 48 --eval-rouge-articles 2"),
    (r"train\.sh (cnndm|xsum)", "", f"{BART} --max-update 2 --total-num-update 2 --truncate-source-length 48"),
    (r"train\.sh iwslt", "", f"{SIZES} --max-epoch 1 --eval-bleu-args {{}}"),
    (r"train\.sh wmt14", "", f"{SIZES} --max-epoch 10 --save-interval 1"),
    (r"train\.sh glue", "", f"{ROBERTA} --max-positions 64 --num-workers 0 --max-update 2 --total-num-update 2 "
     "--warmup-updates 1"),
    (r"train\.sh wikitext103_gpt", "", f"{DECODER} --tokens-per-sample 32 --num-workers 0 --max-update 2"),
    (r"train\.sh wikitext103_ad", "", f"{DECODER} --tokens-per-sample 32 --num-workers 0 --max-update 2 "
     "--decoder-input-dim 16 --decoder-output-dim 16 --adaptive-softmax-cutoff 6,12 --adaptive-input-cutoff 6,12"),
    (r"score_bleu\.sh", "", "--max-len-a 1 --max-len-b 10 --beam 1"),
    (r"score_perplexity\.sh", "--tokens-per-sample 32 --context-window 16", "--cpu"),
    (r"summarize\.sh", "--beam 1 --max-len-b 8 --min-len 1", ""),
    (r"score_rouge\.sh", "--samples 20", ""),
    (r"train_vit\.sh digits", f"{VIT} --train-images 110", ""),
    (r"train_vit\.sh", f"{VIT} {IMAGES} --micro-batch 2", ""),
    # a training that ends within an epoch leaves a thread that reads ahead, and now and then aborts at exit
    (r"^fairseq-train", f"{SIZES} --cpu --max-epoch 1 --save-dir outputs/by-hand", ""),
    (r"experiment\.sh", "--report", ""),
    (r"doctor|predict|average|compare|scripts/test", "", ""),
]  # fmt: skip


def small(command: str) -> list[str]:
    """The words of a command with what makes it small appended."""
    own, program = next((own, program) for pattern, own, program in SMALL if re.search(pattern, command))
    words = shlex.split(command)
    cut = words.index("--") if "--" in words else len(words)
    behind = [*words[cut + 1 :], *shlex.split(program)]
    return [*words[:cut], *shlex.split(own), *(["--", *behind] if behind else [])]


class Checkout:
    """A folder with the scripts, the configs and a mirror, in which commands are run by the warm Python."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder, self.mirror = folder, folder / "mirror"
        self.mirror.mkdir()
        for name in ("scripts", "configs", "rdrop_fairseq", "setup.py", "constraints.txt", "tests"):
            (folder / name).symlink_to(ROOT / name)
        keep = {name: os.environ[name] for name in ("HOME", "TMPDIR", "VIRTUAL_ENV", "LANG") if name in os.environ}
        self.environment = {**keep, "PYTHON": str(python), "PATH": f"{python.parent}:/usr/local/bin:/usr/bin:/bin"}
        self.environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "DATA_MIRROR": self.mirror.as_uri()}

    def run(self, words: list[str], **environment: str) -> str:
        """What it prints. Fails with its output where it does."""
        done = subprocess.run(
            words, cwd=self.folder, env={**self.environment, **environment}, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{shlex.join(words)}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def printed(self, group: str) -> Iterator[list[str]]:
        """The words of each command of a group, made small and filled in."""
        for command in of_group(group):
            yield [word for each in small(command) for word in self.filled(each)]

    def filled(self, word: str) -> list[str]:
        """Words in capitals stand for what a reader has; --fp16 needs the GPU that a reader has, too."""
        if word.startswith("RESULTS_OF_"):
            system = word.removeprefix("RESULTS_OF_").lower()
            return [str(next((self.folder / "outputs" / f"iwslt14_de_en_{system}").rglob("scores.json")).parent)]
        places = {
            "CONFIG": "cnndm_bart_base_rdrop",
            "--fp16": "",
            "CHECKPOINT": "outputs/glue_mrpc_roberta_large_rdrop/checkpoint_best.pt",
        }
        return shlex.split(places[word]) if word in places else [word]


@pytest.fixture
def checkout(tmp_path: Path, warm_python: Path) -> Checkout:
    return Checkout(tmp_path, warm_python)


def test_iwslt14(checkout: Checkout) -> None:
    small_corpora.iwslt_archive(checkout.mirror, count=240)
    small_corpora.talk_archives(checkout.mirror, "fr", count=240)
    for words in checkout.printed("iwslt14"):
        data = "data/iwslt14.de-en/bin"
        checkout.run([data if word == "DATA" else word for word in words])


@pytest.mark.parametrize("target", ["de", "fr"])
def test_wmt14(checkout: Checkout, target: str) -> None:
    small_corpora.wmt14_archives(checkout.mirror, count=60 if target == "de" else 300)  # fr: each 1333rd is valid
    for words in checkout.printed(f"wmt14_en_{target}"):
        checkout.run(words)


@pytest.mark.parametrize("corpus", ["cnndm", "xsum"])
def test_summarization(checkout: Checkout, gpt2_files: Path, story: Callable[[int], bytes], corpus: str) -> None:
    make = small_news.news if corpus == "cnndm" else small_news.articles
    make(checkout.mirror, gpt2_files, story)
    for words in checkout.printed(corpus):
        checkout.run(words)


def test_glue(checkout: Checkout, gpt2_files: Path) -> None:
    shutil.copytree(gpt2_files, checkout.mirror, dirs_exist_ok=True)
    small_glue.write_archives(checkout.mirror, "MRPC")
    checkout.run(["scripts/prepare_glue.sh", "mrpc", "--no-model", "--data", "before", "--workers", "1"])
    tiny_roberta.write_roberta(checkout.mirror, checkout.folder / "before" / "glue" / "mrpc" / "bin")
    pairs = [small_glue.sentences(number)[:2] for number in range(4)]
    (checkout.folder / "sentences.txt").write_text("".join(f"{one}\t{two}\n" for one, two in pairs), encoding="utf-8")
    for words in checkout.printed("glue"):
        checkout.run(["data/glue/mrpc/bin" if word == "DATA" else word for word in words])


def test_wikitext103(checkout: Checkout) -> None:
    draw = random.Random(1)
    with zipfile.ZipFile(checkout.mirror / "wikitext-103-v1.zip", "w") as archive:
        for split, lines in (("train", 60), ("valid", 6), ("test", 30)):
            text = "".join(" " + " ".join(draw.choices("abcdefghijklmnopqrst", k=9)) + " \n" for _ in range(lines))
            archive.writestr(f"wikitext-103/wiki.{split}.tokens", text)
    for words in checkout.printed("wikitext103"):
        checkout.run(words)


def test_vision(checkout: Checkout) -> None:
    from PIL import Image

    for split in ("train", "val"):
        for name, color in (("red", (200, 0, 0)), ("blue", (0, 0, 200))):
            folder = checkout.folder / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (20, 20), color).save(folder / f"{number}.png")
    for words in checkout.printed("vision"):
        checkout.run(words)
        assert list((checkout.folder / "outputs" / "vit" / words[1]).glob("result.json"))


def test_the_suite_takes_its_words(checkout: Checkout, tmp_path: Path) -> None:
    """The linter, the type checker and pytest are asked; what they would say, this run says already."""
    recorder = tmp_path / "recorder"
    recorder.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n', encoding="utf-8")
    recorder.chmod(0o755)
    for words in checkout.printed("suite"):
        checkout.run(words, PYTHON=str(recorder))
        asked = (tmp_path / "asked").read_text().splitlines()
        assert [line.split()[1] for line in asked] == ["ruff", "mypy", "pytest"]
        assert asked[-1].endswith(" ".join(words[1:]))
        assert all((ROOT / word).exists() for word in words[1:] if "/" in word)


def test_the_experiment_is_put_together(checkout: Checkout, tiny_data: Path) -> None:
    """Each system's options are what fairseq-train takes. Nothing is trained (--report): that takes hours."""
    (checkout.folder / "scripts").unlink()
    (checkout.folder / "scripts").mkdir()
    for script in (ROOT / "scripts").iterdir():
        if script.name != "prepare_verses.sh":  # tests/corpus/test_verses.py
            (checkout.folder / "scripts" / script.name).symlink_to(script)
    (checkout.folder / "scripts" / "prepare_verses.sh").symlink_to("/bin/true")
    shutil.copytree(tiny_data, checkout.folder / "work" / "verses" / "bin")
    for words in checkout.printed("experiment"):
        with pytest.raises(AssertionError, match=r"outputs/experiment(/tuning)? .*run without --report first"):
            checkout.run(words)
