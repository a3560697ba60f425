"""GPT-2's vocabulary as fairseq publishes it, and the step that puts text into it: what BART and RoBERTa read."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rdrop_fairseq.corpus import lines
from rdrop_fairseq.corpus.gpt2_bpe import DICTIONARY, ENCODER, HOST, MERGES, Gpt2Bpe
from rdrop_fairseq.corpus.pipeline import Pipeline


@dataclass(frozen=True)
class Vocabulary:
    """The files of the BPE, and the dictionary of the models."""

    encoder: Path
    merges: Path
    dictionary: Path

    @classmethod
    def fetch(cls, pipeline: Pipeline, folder: Path) -> Vocabulary:
        """Steps: the three files in `folder`."""
        return cls(*(pipeline.download([f"{HOST}/{name}"], folder / name) for name in (ENCODER, MERGES, DICTIONARY)))

    def encode(
        self, pipeline: Pipeline, split: str, texts: Mapping[str, Path], outputs: Sequence[Path], workers: int
    ) -> None:
        """Step: the BPE text of each side of a split (source and target, or input0 and input1)."""

        def run(parts: list[Path]) -> dict[str, int]:
            encode_line = Gpt2Bpe(self.encoder, self.merges).encode_line
            done = {
                side: lines.map_files(encode_line, [text], [part], workers, f"{split}.{side}")
                for (side, text), part in zip(texts.items(), parts)
            }
            return {f"{side}_tokens": count.tokens[0] for side, count in done.items()}

        inputs = [*texts.values(), self.encoder, self.merges]
        pipeline.step(f"GPT-2 BPE of {split}", outputs, run, inputs)

    @property
    def files(self) -> tuple[Path, Path, Path]:
        """All three."""
        return self.encoder, self.merges, self.dictionary

    def copy_to(self, data: Path) -> None:
        """Puts the BPE's files into a data directory, for those who need text from ids or ids from text."""
        for file in (self.encoder, self.merges):
            shutil.copy(file, data)
