"""Reading fairseq-generate's stream: what counts, what is refused."""

import pytest

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.scoring.generation import looks_like_generation, read_generation

NOISE = [
    "Hydra 1.4 will remove support for this",
    "Hydra-core\twarning",
    "Warning: the D- option\tis old",
    "The T-9 keyboard",
    "H-x\t-0.1\tnot a result",
    " H-7\t-0.1\tnot a result",
    "S-\tno id",
    "2026-11-22 10:00:00 | INFO | fairseq.tasks | [de] dictionary: 1 types",
]
LOG = "2026-11-22 10:00:01 | INFO | fairseq_cli.generate | "
TRANSLATED = LOG + "Translated {} sentences (9 tokens) in 0.1s (9.00 sentences/s, 9.00 tokens/s)"
GENERATED = "Generate test with beam=5: BLEU4 = 0.00, 0.0/0.0/0.0/0.0 (BP=1.000, ratio=1.000, syslen=2, reflen=2)"


def sentence(number, hyp="h {}", score=-0.5):
    texts = {"S": f"s {number}", "T": f"t {number}", "H": f"{score}\t{hyp.format(number)}", "D": f"{score}\td {number}"}
    return [f"{letter}-{number}\t{text}" for letter, text in {**texts, "P": "-0.1 -0.2"}.items()]


@pytest.fixture
def stream(tmp_path):
    def write(*parts, end="\n"):
        path = tmp_path / "generate.txt"
        lines = [line for part in parts for line in ([part] if isinstance(part, str) else part)]
        path.write_bytes(("\n".join(lines) + end).encode())
        return path

    return write


def test_sorts_by_id_and_ignores_the_noise(stream):
    path = stream(NOISE, sentence(2), NOISE, sentence(0), sentence(1), NOISE, TRANSLATED.format(3), GENERATED)
    result = read_generation(path)
    assert result.hypotheses == ["h 0", "h 1", "h 2"]
    assert result.targets == ["t 0", "t 1", "t 2"]
    assert looks_like_generation(path)


def test_ten_sorts_after_nine_and_separators_stay_inside_a_line(stream):
    path = stream(*(sentence(i, "x\u2028y\x0c\x85\r{}") for i in (10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)), GENERATED)
    assert read_generation(path).hypotheses == [f"x\u2028y\x0c\x85\r{i}" for i in range(11)]


def test_of_the_n_best_the_best_score_counts(stream):
    best = ["H-0\t-0.9\tworse", "D-0\t-0.9\tworse", "H-0\t-0.2\tbest", "D-0\t-0.2\tbest", "H-0\t-0.5\tmiddle"]
    assert read_generation(stream("S-0\ts", "T-0\tt", best, sentence(1), GENERATED)).hypotheses == ["best", "h 1"]


def test_an_empty_hypothesis_is_a_hypothesis(stream):
    assert read_generation(stream(sentence(0, ""), sentence(1), GENERATED)).hypotheses == ["", "h 1"]


def test_without_references(stream):
    assert read_generation(stream("H-0\t-0.1\ta", TRANSLATED.format(1))).targets is None


def test_thousands_in_the_closing_line(stream):
    with pytest.raises(UserError, match="no hypothesis for 1233 of 1234 sentences"):
        read_generation(stream(sentence(0), TRANSLATED.format("1,234"), GENERATED))


def test_unknown_words_of_the_reference_are_counted(stream):
    path = stream("T-0\ta <<unk>> b <<unk>>", "H-0\t-0.1\tx", "T-1\tc", "H-1\t-0.1\tx <unk>", GENERATED)
    assert read_generation(path).unknown_in_targets() == 1


@pytest.mark.parametrize(
    ("parts", "sentences", "message"),
    [
        ([sentence(0), sentence(2), GENERATED], None, r"no hypothesis for 1 of 3 sentences \(id 1\)"),
        ([sentence(0), GENERATED], 3, r"no hypothesis for 2 of 3 sentences \(id 1, 2\)"),
        ([sentence(0), sentence(1)], None, "did not finish"),
        ([sentence(0), sentence(1), GENERATED], 1, "id 1, but there are 1 sentences"),
        ([sentence(0), sentence(0), GENERATED], None, "sentence 0 is there twice"),
        (["H-0\t-1\ta", "H-1\t-1\tb", "H-0\t-1\ta", GENERATED], None, "sentence 0 is there twice"),
        ([sentence(0), GENERATED, sentence(1), GENERATED], None, "more than one run"),
        ([NOISE, GENERATED], None, "has no hypothesis"),
        ([NOISE], None, "did not finish"),
        (["H-0\ttext without score", GENERATED], None, "is not a score and a text"),
        (["H-0\t-0.5", GENERATED], None, "is not a score and a text"),
        (["T-0\tt", "H-0\t-0.1\ta", "H-1\t-0.1\ta", GENERATED], None, "no reference for 1 of 2"),
    ],
)
def test_what_is_not_a_whole_generation_is_refused(stream, parts, sentences, message):
    with pytest.raises(UserError, match=message):
        read_generation(stream(*parts), sentences)


def test_unreadable_files(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "latin1").write_bytes(b"H-0\t-1\ta\nH-1\t-1\t\xe4\n")
    with pytest.raises(UserError, match="empty is empty"):
        read_generation(tmp_path / "empty")
    with pytest.raises(UserError, match="latin1 line 2 is not UTF-8"):
        read_generation(tmp_path / "latin1")
    with pytest.raises(UserError, match=r"cannot read .*absent"):
        read_generation(tmp_path / "absent")
