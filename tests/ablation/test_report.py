"""Table and pictures of an ablation from made-up scores."""

from __future__ import annotations

from rdrop_fairseq.ablation import plots
from rdrop_fairseq.ablation.curves import Point
from rdrop_fairseq.ablation.grid import BASELINE, System
from rdrop_fairseq.ablation.report import budget_table, markdown, table
from rdrop_fairseq.ablation.rows import Row

ROWS = [
    Row(BASELINE, [30.0, 31.0], 0.98, 400, 120.0, None),
    Row(System("alpha=1", {"alpha": "1", "passes": "2"}), [31.0, 33.0], None, 420, 186.0, None),
    Row(System("alpha=5", {"alpha": "5", "passes": "2"}), [33.0, 33.5], 1.0, 500, 200.0, None),
    Row(System("passes=3", {"passes": "3"}), [32.0, 32.0], 1.0, 500, 300.0, None),
]


def test_means_and_deviations_over_seeds():
    lines = table(ROWS, "tokenized")
    assert lines[1] == ["baseline", "30.50", "0.71", "", "", "", "0.980", "400", "2.0"]
    assert lines[2] == ["alpha=1", "32.00", "1.41", "", "", "", "", "420", "3.1"]
    assert markdown(lines).splitlines()[1] == "|" + " --- |" * 9


def test_an_axis_shows_its_own_values_and_the_baseline(tmp_path):
    """Figures are read back from matplotlib before they are drawn: what stands where."""
    seen = []
    save = plots._save
    plots._save = lambda figure, path: (seen.append(figure.axes[0]), save(figure, path))[1]
    try:
        path = plots.axis_plot(ROWS, "alpha", ["1", "3", "5"], "BLEU", tmp_path / "alpha.png")
    finally:
        plots._save = save
    assert path is not None
    assert path.read_bytes()[:4] == b"\x89PNG"
    line, baseline = [each for each in seen[0].lines if each.get_linestyle() in ("-", "--")]
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([1.0, 5.0], [32.0, 33.25])
    assert set(baseline.get_ydata()) == {30.5}
    assert [text.get_text() for text in seen[0].get_xticklabels()] == ["1", "3", "5"]
    assert [text.get_text() for text in seen[0].get_legend().get_texts()] == ["baseline", "passes=2"]


def test_values_that_are_no_numbers_stand_side_by_side():
    assert plots._places(["none", "token"]) == {"none": 0.0, "token": 1.0}
    assert plots._places(["0.3", "1e-1"]) == {"0.3": 0.3, "1e-1": 0.1}


def test_an_axis_without_a_finished_system_has_no_picture(tmp_path):
    assert plots.axis_plot(ROWS, "every", ["1", "2"], "BLEU", tmp_path / "every.png") is None


def test_curves_are_of_bleu_where_there_is_one(tmp_path):
    curves = {"a": [[Point(10, 1.0, {"bleu": 3.0, "nll_loss": 4.0}), Point(20, 2.0, {"bleu": 5.0, "nll_loss": 3.0})]]}
    assert plots.curve_plot(curves, "seconds", tmp_path / "curves.png") == tmp_path / "curves.png"
    assert plots.curve_plot({"a": [[]]}, "seconds", tmp_path / "none.png") is None


def test_the_best_score_within_the_same_seconds():
    """The baseline took 120 s on average: budgets of 30, 60, 120, 240 and 360."""

    def curve(*values):
        return [Point(n, 0.0, {"bleu": bleu}, seconds) for n, (seconds, bleu) in enumerate(values)]

    curves = {
        "baseline": [curve((25, 3.0), (60, 6.0), (110, 5.0)), curve((30, 4.0), (61, 8.0))],
        "alpha=1": [curve((100, 5.0), (300, 9.0)), curve((130, 7.0), (240, 6.5))],
    }
    lines = budget_table(ROWS[:2], curves)
    assert lines[0] == ["best validation bleu within CPU seconds", "30", "60", "120", "240", "360"]
    assert lines[1] == ["baseline", "3.50", "5.00", "7.00", "7.00", "7.00"]
    assert lines[2] == ["alpha=1", "", "", "", "6.00", "8.00"]
    assert budget_table(ROWS[1:2], curves) == []
    assert budget_table(ROWS[:1], {"baseline": [[Point(1, 1.0, {"bleu": 3.0})]]}) == []
