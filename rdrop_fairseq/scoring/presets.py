"""Generation settings of the published recipes, under fairseq's names."""

from __future__ import annotations

from typing import Any

# BART's README for both; the R-Drop paper's script generates CNN/DailyMail with the first.
PRESETS: dict[str, dict[str, Any]] = {
    "cnndm": {"beam": 4, "lenpen": 2.0, "max_len_b": 140, "min_len": 55, "no_repeat_ngram_size": 3},
    "xsum": {"beam": 6, "lenpen": 1.0, "max_len_b": 60, "min_len": 10, "no_repeat_ngram_size": 3},
}
