"""The eight tasks of GLUE that the paper reports: files, columns, labels, sizes. Columns count from 0.

As in fairseq's preparation (examples/roberta/preprocess_GLUE_tasks.sh) and the script that GLUE was distributed with.
"""

from __future__ import annotations

from dataclasses import dataclass

from rdrop_fairseq.corpus.manifest import Known

HOST = "https://dl.fbaipublicfiles.com/glue/data"
SENTEVAL = "https://dl.fbaipublicfiles.com/senteval/senteval_data"
BINARY = ("0", "1")
ENTAILMENT = ("entailment", "not_entailment")
HIGHEST_SCORE = 5.0  # of STS-B, which is trained on scores between 0 and 1


@dataclass(frozen=True)
class Split:
    """One file of a task. label: its column, None in a test set; fields: the number of columns, None if not checked."""

    file: str
    inputs: tuple[int, ...]
    label: int | None = None
    header: bool = True
    fields: int | None = None


@dataclass(frozen=True)
class Task:
    """A task: splits by fairseq's names (a second dev set is valid1), labels (none: a score of 0 to 5)."""

    name: str
    archives: tuple[str, ...]
    splits: dict[str, Split]
    labels: tuple[str, ...]
    sizes: tuple[int, ...]
    submissions: tuple[str, ...]

    @property
    def key(self) -> str:
        """Its name in configs and folders: mrpc, stsb, sst2, ..."""
        return self.name.lower().replace("-", "")

    @property
    def known(self) -> dict[str, Known]:
        """Sentences or pairs of each split as published (Wang et al. 2019, and counted by others)."""
        return {split: Known(size) for split, size in zip(self.splits, self.sizes)}


def _three(
    folder: str,
    inputs: tuple[int, ...],
    label: int,
    test: tuple[int, ...],
    header: bool = True,
    fields: int | None = None,
) -> dict[str, Split]:
    return {
        "train": Split(f"{folder}/train.tsv", inputs, label, header, fields),
        "valid": Split(f"{folder}/dev.tsv", inputs, label, header, fields),
        "test": Split(f"{folder}/test.tsv", test),
    }


MNLI = {
    "train": Split("MNLI/train.tsv", (8, 9), 11),
    "valid": Split("MNLI/dev_matched.tsv", (8, 9), 15),
    "valid1": Split("MNLI/dev_mismatched.tsv", (8, 9), 15),
    "test": Split("MNLI/test_matched.tsv", (8, 9)),
    "test1": Split("MNLI/test_mismatched.tsv", (8, 9)),
}
# One file holds train and dev; mrpc_dev_ids.tsv lists the pairs of dev.
MRPC = {
    "train": Split("msr_paraphrase_train.txt", (3, 4), 0),
    "valid": Split("msr_paraphrase_train.txt", (3, 4), 0),
    "test": Split("msr_paraphrase_test.txt", (3, 4)),
}
MRPC_IDS = (1, 2)
MRPC_DEV = "mrpc_dev_ids.tsv"
MRPC_FILES = (
    f"{SENTEVAL}/msr_paraphrase_train.txt", f"{SENTEVAL}/msr_paraphrase_test.txt", f"{HOST}/{MRPC_DEV}",
)  # fmt: skip

_ALL = (
    Task("MNLI", (f"{HOST}/MNLI.zip",), MNLI, ("contradiction", "entailment", "neutral"),
         (392_702, 9_815, 9_832, 9_796, 9_847), ("MNLI-m", "MNLI-mm")),
    Task("MRPC", MRPC_FILES, MRPC, BINARY, (3_668, 408, 1_725), ("MRPC",)),
    Task("QNLI", (f"{HOST}/QNLIv2.zip",), _three("QNLI", (1, 2), 3, (1, 2)), ENTAILMENT,
         (104_743, 5_463, 5_463), ("QNLI",)),
    # The lines of QQP that do not have six fields are broken: fairseq drops them as well.
    Task("QQP", (f"{HOST}/QQP-clean.zip",), _three("QQP", (3, 4), 5, (1, 2), fields=6), BINARY,
         (363_846, 40_430, 390_965), ("QQP",)),
    Task("RTE", (f"{HOST}/RTE.zip",), _three("RTE", (1, 2), 3, (1, 2)), ENTAILMENT, (2_490, 277, 3_000), ("RTE",)),
    Task("SST-2", (f"{HOST}/SST-2.zip",), _three("SST-2", (0,), 1, (1,)), BINARY, (67_349, 872, 1_821), ("SST-2",)),
    Task("STS-B", (f"{HOST}/STS-B.zip",), _three("STS-B", (7, 8), 9, (7, 8)), (), (5_749, 1_500, 1_379), ("STS-B",)),
    Task("CoLA", (f"{HOST}/CoLA.zip",), _three("CoLA", (3,), 1, (1,), header=False), BINARY,
         (8_551, 1_043, 1_063), ("CoLA",)),
)  # fmt: skip
TASKS = {task.key: task for task in _ALL}
