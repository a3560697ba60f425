"""Every file of configs/: fairseq's own parser takes it, its model can be built, and its head says what is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from rdrop_fairseq.training import family, options
from rdrop_fairseq.training.batch import plan
from rdrop_fairseq.training.config import find_config, names, read_config

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(path for path in (ROOT / "configs").glob("*.yaml") if not family.axes(path))
MEMBERS = [name for path in family.families(ROOT / "configs") for name in names(ROOT) if family.choices(path, name)]
# the quickstart's are no published recipes: no batch to keep, no number to expect
RECIPES = [path for path in CONFIGS if not path.stem.startswith("quickstart")]
SHAPE = re.compile(r"^# model: .*?(\d+)\+(\d+) layers, d ([\d,]+), ffn ([\d,]+), (\d+) heads$", re.MULTILINE)
BATCH = re.compile(r"^# batch +([\d,]+) tokens x (\d+) GPUs? x update-freq (\d+) = ([\d,]+) tokens per", re.MULTILINE)


def number(text: str) -> int:
    return int(text.replace(",", ""))


@pytest.fixture(scope="module")
def dictionaries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dictionary of 8 words per language, and a checkpoint_last.pt, so that no pretrained model is asked for."""
    folder = tmp_path_factory.mktemp("dictionaries")
    for language in ("de", "en", "fr", "source", "target", "src", "tgt"):
        (folder / f"dict.{language}.txt").write_text("".join(f"{word} 1\n" for word in "abcdefgh"), encoding="utf-8")
    (folder / "checkpoint_last.pt").touch()
    return folder


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_fairseq_builds_what_the_config_says(
    path: Path, dictionaries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fairseq import tasks

    # BART's initialization goes through the CPU, which the meta device does not allow; there is nothing to initialize
    monkeypatch.setattr("fairseq.models.bart.model.init_bert_params", lambda module: None)
    # ROUGE on valid needs GPT-2's files, which the data directory of a real run holds
    monkeypatch.setattr("rdrop_fairseq.tasks.parts.validation_rouge.ValidationRouge", lambda *_: None)
    experiment = read_config(path)
    extra = ["--save-dir", str(dictionaries)]
    if not any(entry.key == "source-lang" for entry in experiment.options):
        extra += ["--source-lang", "de", "--target-lang", "en"]
    _, args = options.check(experiment, extra, str(dictionaries))
    task = tasks.setup_task(args)
    with torch.device("meta"):
        model = task.build_model(args)
    task.build_criterion(args)

    assert model.decoder.output_projection.weight is model.encoder.embed_tokens.weight
    if path not in RECIPES:
        return
    shape = SHAPE.search(path.read_text(encoding="utf-8"))
    assert shape is not None
    first = model.encoder.layers[0]
    assert [len(model.encoder.layers), len(model.decoder.layers)] == [int(shape[1]), int(shape[2])]
    width = (first.embed_dim, first.fc1.out_features, first.self_attn.num_heads)
    assert width == tuple(map(number, shape.groups()[2:]))
    assert first.dropout_module.p == float(args.dropout) > 0


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_head_of_a_config(path: Path) -> None:
    """Launch line, hardware, batch arithmetic that comes out, expected result marked as published elsewhere."""
    text = path.read_text(encoding="utf-8")
    head = text.split("\n\n")[0]
    assert re.search(rf"^#   scripts/train\.sh {path.stem}$", head, re.MULTILINE)
    assert "# hardware  " in head
    assert "not measured here" in " ".join(head.partition("# expected  ")[2].replace("#", "").split())
    experiment = read_config(path)
    assert experiment.own["prepare"].split()[0] in head
    arithmetic = BATCH.search(head)
    assert arithmetic is not None
    max_tokens, gpus, update_freq, total = map(number, arithmetic.groups())
    assert experiment.tokens_per_update == total == max_tokens * gpus * update_freq
    batch = plan(total, max_tokens, gpus)
    assert (batch.size, batch.update_freq) == (max_tokens, update_freq)
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("name", [path.stem for path in RECIPES if path.stem.endswith("_rdrop")])
def test_a_baseline_differs_in_nothing_but_rdrop(name: str) -> None:
    ours = {entry.key: entry.value for entry in read_config(ROOT / "configs" / f"{name}.yaml").options}
    plain_path = ROOT / "configs" / f"{name[: -len('rdrop')]}baseline.yaml"
    plain = {entry.key: entry.value for entry in read_config(plain_path).options}
    different = {key for key in {*ours, *plain} if ours.get(key) != plain.get(key)}
    # the base Transformer's baseline is trained as in its paper, shorter
    allowed = {"task", "criterion", "rdrop-alpha"} | ({"max-update"} if "en_de_base" in name else set())
    assert {"criterion", "rdrop-alpha"} <= different <= allowed


@pytest.mark.parametrize("name", [name for name in MEMBERS if name.startswith("glue_")])
def test_a_member_of_glue_is_what_fairseq_builds(
    name: str, dictionaries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a data directory with as many classes as the task has; R-Drop and baseline differ in alpha alone."""
    from fairseq import tasks
    from tiny_roberta import write_sentences

    from rdrop_fairseq.corpus.glue_tasks import TASKS

    monkeypatch.setattr("fairseq.models.roberta.model.init_bert_params", lambda module: None)  # as for BART
    task = TASKS[name.split("_")[1]]
    data = write_sentences(tmp_path / "data", classes=task.labels, train=4, valid=4)
    experiment = read_config(find_config(name, ROOT), name)
    _, args = options.check(experiment, ["--save-dir", str(dictionaries)], str(data))
    built = tasks.setup_task(args)
    with torch.device("meta"):
        model = built.build_model(args)
    built.build_criterion(args)
    layer = model.encoder.sentence_encoder.layers[0]
    assert (len(model.encoder.sentence_encoder.layers), layer.embed_dim, layer.fc1.out_features) == (24, 1024, 4096)
    assert layer.dropout_module.p == 0.1
    assert model.classification_heads["sentence_classification_head"].out_proj.out_features == max(1, len(task.labels))
    assert args.max_update == int(args.total_num_update) > args.warmup_updates > 0
    assert plan(experiment.sentences_per_update or 0, args.batch_size, 1, "sentences").size == 8
    epochs = args.max_update * (experiment.sentences_per_update or 0) / task.sizes[0]
    assert 9.9 < epochs < 10.2  # ten epochs of the data as published
    other = name.replace("rdrop", "baseline")
    plain = {entry.key: entry.value for entry in read_config(find_config(other, ROOT), other).options}
    ours = {entry.key: entry.value for entry in experiment.options}
    different = {key: (ours[key], plain[key]) for key in ours if ours[key] != plain[key]}
    assert different == ({"rdrop-alpha": (ours["rdrop-alpha"], "0")} if name != other else {})
    assert experiment.own["data"] == f"data/glue/{task.key}/bin"


@pytest.mark.parametrize("name", [name for name in MEMBERS if name.startswith("wikitext103_")])
def test_a_language_model_is_what_fairseq_builds(name: str, tmp_path: Path) -> None:
    """On a dictionary that has words beyond the last cutoff; R-Drop and baseline differ in alpha alone."""
    from fairseq import tasks

    (tmp_path / "dict.txt").write_text("".join(f"{word} 1\n" for word in range(60_100)), encoding="utf-8")
    experiment = read_config(find_config(name, ROOT), name)
    _, args = options.check(experiment, ["--save-dir", str(tmp_path)], str(tmp_path))
    built = tasks.setup_task(args)
    with torch.device("meta"):
        model = built.build_model(args)
    criterion = built.build_criterion(args)
    layer = model.decoder.layers[0]
    width = (len(model.decoder.layers), layer.embed_dim, layer.fc1.out_features, layer.nh)
    adaptive = "adaptive" in name
    assert width == ((16, 1024, 4096, 8) if adaptive else (12, 768, 3072, 12))
    assert layer.dropout_module.p == (0.3 if adaptive else 0.1)
    assert (model.decoder.adaptive_softmax is not None) == adaptive
    assert criterion.schedule.alpha == (1.0 if "rdrop" in name else 0.0)
