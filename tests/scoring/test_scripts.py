"""The shell scripts on a real, tiny model: fairseq-train's checkpoints averaged, translated, scored and compared."""

import json
import random
import re
import sys
from pathlib import Path

import pytest
import sacrebleu
import torch
from tiny_training import succeed

pytestmark = pytest.mark.usefixtures("warm")
TRAIN = (
    "--cpu --arch transformer_iwslt_de_en --share-all-embeddings --encoder-layers 1 --decoder-layers 1 "
    "--encoder-embed-dim 32 --decoder-embed-dim 32 --encoder-ffn-embed-dim 32 --decoder-ffn-embed-dim 32 "
    "--encoder-attention-heads 2 --decoder-attention-heads 2 --dropout 0 --optimizer adam --lr 0.01 "
    "--criterion label_smoothed_cross_entropy --label-smoothing 0.1 --max-tokens 150 --max-epoch 3 --seed 1 "
    "--keep-best-checkpoints 2 --no-progress-bar"
)
RESULT = "averaged.pt generate.txt hyp.tok hyp.detok ref.tok.0 ref.detok.0 scores.json scores.txt"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with bin/ (whose manifest says WMT14 en-de) and save/, checkpoints of three epochs."""
    folder = tmp_path_factory.mktemp("tiny model")
    dice = random.Random(4)
    names = {"cat": "Katze", "dog": "Hund", "TV set": "TV-Gerät", "car": "Auto"}
    for split, count in (("train", 400), ("valid", 20), ("test", 20)):
        pairs = [dice.choices(list(names.items()), k=2) for _ in range(count)]
        english = [f"the {first[0]} sees the {second[0]} here ." for first, second in pairs]
        german = [f"hier sieht {first[1]} das Objekt {second[1]} ." for first, second in pairs]
        for language, lines in (("en", english), ("de", german)):
            (folder / f"{split}.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    prefixes = [word for split in ("train", "valid", "test") for word in (f"--{split}pref", folder / split)]
    languages = ["--source-lang", "en", "--target-lang", "de", "--joined-dictionary"]
    preprocess = [sys.executable, "-m", "fairseq_cli.preprocess", *languages, *prefixes, "--destdir", folder / "bin"]
    train = [sys.executable, "-m", "fairseq_cli.train", folder / "bin", *TRAIN.split(), "--save-dir", folder / "save"]
    for command in (preprocess, train):
        succeed(*command)
    (folder / "manifest.json").write_text(json.dumps({"name": "WMT14 en-de"}))
    return folder


@pytest.fixture(scope="module")
def scored(trained):
    """score_bleu.sh on the average of the last two, into a directory that holds an earlier result."""
    output = trained / "R Drop"
    output.mkdir()
    (output / "scores.json").write_text("{}")
    (output / "leftover").touch()
    words = ["--average-last", "2", "--output", output]
    return output, succeed("score_bleu.sh", trained / "bin", trained / "save", *words, "--", "--max-len-b", "20")


def test_scores_of_a_real_generation(scored):
    output, printed = scored
    assert {path.name for path in output.iterdir()} == set(RESULT.split())
    results = re.findall(r"(?m)^([HT])-(\d+)\t(?:-?[\d.]+\t)?(.*)$", (output / "generate.txt").read_text())
    texts = {(letter, int(number)): text for letter, number, text in results}
    hyp, ref = ([texts[letter, number] for number in range(20)] for letter in "HT")
    content = json.loads((output / "scores.json").read_text())
    scores = {score["convention"]: score for score in content["scores"]}
    raw = {"tokenize": "none", "smooth_method": "none", "force": True}
    assert scores["tokenized"]["score"] == pytest.approx(sacrebleu.corpus_bleu(hyp, [ref], **raw).score)
    assert scores["tokenized"]["score"] > 20
    split = [[re.sub(r"(\S)-(\S)", r"\1 ##AT##-##AT## \2", line) for line in lines] for lines in (hyp, ref)]
    expected = sacrebleu.corpus_bleu(split[0], [split[1]], **raw)
    assert expected.ref_len > sum(len(line.split()) for line in ref)
    assert scores["compound-split"]["score"] == pytest.approx(expected.score)
    plain = [(output / name).read_text().splitlines() for name in ("hyp.detok", "ref.detok.0")]
    assert plain[1] == [line.replace(" .", ".") for line in ref]
    assert scores["sacrebleu"]["score"] == pytest.approx(sacrebleu.corpus_bleu(plain[0], [plain[1]]).score)
    assert content["benchmark"] == "wmt14.en-de"
    assert (content["made"]["beam"], content["made"]["lenpen"]) == (4, 0.6)
    assert [Path(path).name for path in content["made"]["checkpoints"]] == ["checkpoint2.pt", "checkpoint3.pt"]
    assert printed == (output / "scores.txt").read_text()
    assert "published for wmt14.en-de (not measured here):\n 29.12  baseline: tokenized, after compound spl" in printed
    assert all(score["signature"] in printed for score in scores.values())


def test_average_of_real_checkpoints_is_fairseqs(trained):
    succeed("average.sh", trained / "save", "--best", "2", "--output", trained / "best.pt")
    best = sorted((trained / "save").glob("checkpoint.best_*.pt"))
    states = [torch.load(path, weights_only=False) for path in best]
    result = torch.load(trained / "best.pt", weights_only=False)
    assert list(result["model"]) == list(states[0]["model"])
    for name, value in result["model"].items():
        assert torch.equal(value, (states[0]["model"][name].float() + states[1]["model"][name]) / 2)
    assert "last_optimizer_state" not in result
    assert (trained / "best.pt").stat().st_size < 0.5 * best[0].stat().st_size


def test_compare_with_an_earlier_checkpoint(trained, scored):
    checkpoint, data = trained / "save" / "checkpoint1.pt", trained / "bin"
    printed = succeed("score_bleu.sh", data, checkpoint, "--beam", "1", "--json", "--", "--max-len-b", "20")
    assert json.loads(printed)["made"]["beam"] == 1
    baseline = trained / "save" / "scores" / "test.checkpoint1"
    compared = succeed("compare.sh", baseline, scored[0], "--convention", "tokenized")
    row = compared.splitlines()[2].split("|")
    better = json.loads((scored[0] / "scores.json").read_text())["scores"][0]["score"]
    worse = json.loads((baseline / "scores.json").read_text())["scores"][0]["score"]
    assert row[4].strip() == f"{better - worse:+.2f}"
