"""Tables and pictures of an ablation from made-up scores and made-up trials."""

from __future__ import annotations

import json
import math
from argparse import Namespace

import numpy as np
import pytest

from rdrop_fairseq.ablation import plots
from rdrop_fairseq.ablation.ablate import remarks
from rdrop_fairseq.ablation.curves import Point
from rdrop_fairseq.ablation.envelope import envelope
from rdrop_fairseq.ablation.further import Further
from rdrop_fairseq.ablation.grid import BASELINE, System
from rdrop_fairseq.ablation.report import Report, markdown, score_table
from rdrop_fairseq.ablation.rows import Row, Values, make_rows
from rdrop_fairseq.ablation.trial import Trial
from rdrop_fairseq.scoring import conventions, results
from rdrop_fairseq.scoring.bootstrap import Difference

DIFFERENCE = Difference(1.5, (-0.5, 3.5), 0.04, 0.21)
ROWS = [
    Row(BASELINE, [1, 2], Values([30.0, 31.0]), 0.98, 4000, 120.0),
    Row(System("alpha=1", {"alpha": "1", "passes": "2"}), [1, 2], Values([31.0, 33.0], DIFFERENCE), None, 420, 186.0),
    Row(System("alpha=5", {"alpha": "5", "passes": "2"}), [1, 2], Values([33.0, 33.5]), 1.0, 500, 200.0),
    Row(System("passes=3", {"passes": "3"}), [1, 2], Values([32.0, 32.0]), 1.0, 500, 300.0),
]
REFERENCE = ["the cat sat on the mat", "a dog saw the old cat", "the big red dog sat"]


def test_means_and_deviations_over_seeds():
    lines = score_table(ROWS, "BLEU", "cpu")
    assert lines[0][-3:] == ["brevity", "updates", "CPU minutes"]
    assert lines[1] == ["baseline", "2", "30.50", "0.71", "", "", "", "", "0.980", "4,000", "2.0"]
    assert lines[2][4:] == ["+1.50", "-0.50 to +3.50", "0.040", "0.210", "", "420", "3.1"]
    assert markdown(lines).splitlines()[1] == "| --- |" + " ---: |" * 10


def test_one_seed_has_no_column_that_needs_several():
    found = Difference(1.0, (-0.5, 2.5), 0.04, None)
    rows = [Row(BASELINE, [1], Values([30.0]), None, 400, 60.0),
            Row(System("alpha=1", {"alpha": "1"}), [1], Values([31.0], found), None, 400, 60.0)]  # fmt: skip
    lines = score_table(rows, "BLEU", "wall")
    assert lines[0] == ["BLEU", "seeds", "mean", "difference", "95 % interval", "p (sentences)", "updates",
                        "wall minutes"]  # fmt: skip


def test_an_axis_shows_its_own_values_and_the_baseline(tmp_path):
    """Figures are read back from matplotlib before they are drawn: what stands where."""
    figures, path = drawn(plots.axis_plot, ROWS, "alpha", ["1", "3", "5"], "BLEU", tmp_path / "alpha.png")
    assert path.read_bytes()[:4] == b"\x89PNG"
    line, baseline = [each for each in figures[0].lines if each.get_linestyle() in ("-", "--")]
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([1.0, 5.0], [32.0, 33.25])
    assert set(baseline.get_ydata()) == {30.5}
    assert [text.get_text() for text in figures[0].get_xticklabels()] == ["1", "3", "5"]
    assert [text.get_text() for text in figures[0].get_legend().get_texts()] == ["baseline", "passes=2"]


def drawn(plot, *args):
    """What a function of plots draws, and what it returns."""
    seen = []
    save = plots._save
    plots._save = lambda figure, path: (seen.append(figure.axes[0]), save(figure, path))[1]
    try:
        return seen, plot(*args)
    finally:
        plots._save = save


def test_values_that_are_no_numbers_stand_side_by_side():
    assert plots._places(["none", "token"]) == {"none": 0.0, "token": 1.0}
    assert plots._places(["0.3", "1e-1"]) == {"0.3": 0.3, "1e-1": 0.1}


def test_an_axis_without_a_finished_system_has_no_picture(tmp_path):
    assert plots.axis_plot(ROWS, "every", ["1", "2"], "BLEU", tmp_path / "every.png") is None


def test_the_gap_between_training_and_validation(tmp_path):
    """Mean over the seeds, at the updates that both have; seconds are averaged too."""
    curves = {
        "a": {
            1: [Point(10, 1.0, {"nll_loss": 4.0, "train_nll_loss": 5.0}),
                Point(20, 2.0, {"nll_loss": 3.0, "train_nll_loss": 2.0})],
            2: [Point(10, 3.0, {"nll_loss": 4.5, "train_nll_loss": 5.5})],
        },
        "none yet": {},
    }  # fmt: skip
    figures, path = drawn(plots.gap_plot, curves, "wall", tmp_path / "nll.png")
    assert path == tmp_path / "nll.png"
    valid, train = [line for line in figures[0].lines if len(line.get_xdata())]
    assert (list(valid.get_xdata()), list(valid.get_ydata())) == ([2.0], [4.25])
    assert (list(train.get_ydata()), train.get_linestyle()) == ([5.25], "--")
    assert figures[0].get_xlabel() == "wall seconds"
    assert plots.curve_plot({"a": {1: []}}, "wall", tmp_path / "none.png") is None


def curve(*values):
    return [Point(n, 0.0, {"bleu": bleu}, seconds) for n, (seconds, bleu) in enumerate(values)]


CURVES = {
    "baseline": [curve((25, 3.0), (60, 6.0), (110, 5.0)), curve((30, 4.0), (61, 8.0))],
    "alpha=1": [curve((100, 5.0), (300, 9.0)), curve((130, 7.0), (240, 8.0))],
}


def test_the_best_system_for_so_many_seconds():
    """By hand: the best so far of each seed, meaned; a seed that has ended keeps its best."""
    found = envelope(CURVES, "cpu")
    assert found.seconds == [30, 50, 70, 100, 150, 200, 300]
    assert found.scores["baseline"] == [3.5, 3.5, 7.0, 7.0, 7.0, 7.0, 7.0]
    assert found.scores["alpha=1"] == [None, None, None, None, 6.0, 6.0, 8.5]
    lines = found.table()
    assert lines[0] == ["best validation BLEU within CPU seconds", "take", "score", "baseline", "alpha=1"]
    assert lines[1] == ["30", "baseline", "3.50", "3.50", ""]
    assert lines[-1] == ["300", "alpha=1", "8.50", "7.00", "8.50"]
    assert envelope({"baseline": [[]]}, "cpu") is None


def test_the_leader_of_each_second_is_drawn_broad(tmp_path):
    figures, _ = drawn(plots.envelope_plot, CURVES, "cpu", tmp_path / "envelope.png")
    names, broad = [line.get_label() for line in figures[0].lines[::2]], figures[0].lines[1::2]
    assert names == ["baseline", "alpha=1"]
    for line in broad:
        assert list(line.get_xdata()) == [30, 60, 61, 100, 110, 130, 240, 300]
    assert np.nansum([line.get_ydata() for line in broad], axis=0).tolist() == [3.5, 5.0, 7.0, 7.0, 7.0, 7.0, 7.0, 8.5]
    assert [names[np.isfinite(scores).argmax()] for scores in zip(*(line.get_ydata() for line in broad))] == (
        ["baseline"] * 7 + ["alpha=1"]
    )


def test_less_nll_is_better():
    points = {name: [[Point(1, 10.0, {"nll_loss": first}), Point(2, 20.0, {"nll_loss": 3.0})]]
              for name, first in (("a", 4.0), ("b", 5.0))}  # fmt: skip
    assert envelope(points, "wall").best(0) == ("a", 4.0)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Two seeds of the baseline and one of another system are finished, its second one is at update 700."""

    def trial(system, seed, noise, nll):
        folder = tmp_path / f"{system}.{seed}"
        folder.mkdir()
        found = Trial(system, seed, tmp_path, folder, (), Namespace())
        if noise is None:
            found.log.write_text('{"num_updates": "700"}')
            return found
        texts = results.make_texts([line.replace(noise, "x") for line in REFERENCE], [REFERENCE], None)
        for part in ("test", "average-2.test") if seed == 1 else ("test",):
            results.write(folder / part, texts, results.Result([texts.score("tokenized")], 3))
        for split, bits in (("valid", nll), ("test", nll + 0.5)):
            block = {"block_nll": [math.log(2) * bits * count for count in (6, 7, 6)], "block_words": [6, 7, 6]}
            text = json.dumps({**block, "perplexity": 2**bits, "bits_per_word": bits})
            (folder / f"{split}.perplexity.json").write_text(text)
        return found

    trials = {
        "baseline": [trial("baseline", 1, "dog", 3.0), trial("baseline", 2, "cat", 3.5)],
        "alpha=1": [trial("alpha=1", 1, "mat", 2.5), trial("alpha=1", 2, None, None)],
    }
    monkeypatch.setattr(Trial, "trained", property(lambda self: self.test.is_dir()))
    monkeypatch.setattr(Trial, "record", lambda self: {"cpu_seconds": 90.0 * self.seed})
    metrics = {"bleu": 1.0, "nll_loss": 2.875}
    curves = {name: {trial.seed: [Point(100 * trial.seed, 60.0, metrics, 90.0)] for trial in group}
              for name, group in trials.items()}  # fmt: skip
    return trials, curves, Further("test", average=2, ensemble=True)


def test_an_unfinished_grid(study, tmp_path):
    """What is finished is compared, with as many seeds as there are; what is not is named."""
    trials, curves, further = study
    systems = [BASELINE, System("alpha=1", {"alpha": "1"}), System("alpha=2", {"alpha": "2"})]
    trials["alpha=2"], curves["alpha=2"] = [], {}
    baseline, other = make_rows(systems, trials, curves, "tokenized", "cpu", further)
    assert (baseline.seeds, baseline.updates, baseline.seconds, baseline.average) == ([1, 2], 150, 135.0, None)
    assert make_rows(systems, trials, curves, "tokenized", "wall", further)[0].seconds == 60.0
    by_hand = [conventions.score("tokenized", [line.replace(word, "x") for line in REFERENCE], [REFERENCE]).score
               for word in ("dog", "cat", "mat")]  # fmt: skip
    assert baseline.scores.seeds == by_hand[:2]
    assert other.scores.against.difference == pytest.approx(by_hand[2] - sum(by_hand[:2]) / 2)
    assert baseline.nll.seeds == pytest.approx([3.5, 4.0])
    assert baseline.valid_nll.mean == pytest.approx(3.25)
    assert other.nll.against.difference == pytest.approx(-0.75)
    assert other.nll.against.p_seeds is None  # it has one
    assert other.average.against is None  # of the baseline, one seed has none
    assert list(remarks(trials, tmp_path, further)) == [
        "baseline, seed 2: no average (of 2 update checkpoints 0 are there)",
        "alpha=1, seed 2: not finished, at update 700",
        "no ensemble: the checkpoint of baseline, seed 1 is not there",
    ]
    curves["alpha=2"] = {1: [], 2: curves["alpha=1"][2]}
    report = Report([baseline, other], curves, "tokenized", "cpu", "test", 2, None, ["x: not started"], [])
    assert {name: list(group) for name, group in report.drawn.items()} == {
        "baseline": [1, 2], "alpha=1": [1], "alpha=2": [2]
    }  # fmt: skip
    report.write(tmp_path / "out")
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["clock"] == "CPU seconds"
    assert content["systems"][0]["nll"] == {"mean": pytest.approx(3.75), "deviation": pytest.approx(0.3535534),
                                            "seeds": pytest.approx([3.5, 4.0]), "against_baseline": None}  # fmt: skip
    assert content["envelope"]["take"] == ["baseline"]
    shown = (tmp_path / "out" / "table.md").read_text()
    assert "| baseline | 2.875 | 3.250 | 3.750 | 0.354 |" in shown
    assert shown.endswith("- x: not started\n")


def test_eleven_systems_have_eleven_colours(tmp_path):
    curves = {str(number): [curve((10, 1.0 + number))] for number in range(11)}
    figures, _ = drawn(plots.envelope_plot, curves, "cpu", tmp_path / "envelope.png")
    assert len({line.get_color() for line in figures[0].lines[::2]}) == 11
