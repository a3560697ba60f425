"""What a person sees of a running fairseq-train: one line with updates done, losses, and an honest time left."""

from __future__ import annotations

import re
import sys
import time

UPDATE = re.compile(r"\bnum_updates=(\d+)")
RESUMED = re.compile(r"Loaded checkpoint .* @ (\d+) updates")
SHOWN = re.compile(r"\b(nll_loss|rdrop_kl)=([\d.]+)")
# An R-Drop update in updates of plain training, with the quickstart's model on two cores (0.115 s and 0.065 s).
RDROP_COST = 1.8
LINE_SECONDS = 20.0  # between lines where there is no terminal to rewrite one on


class Progress:
    """Reads the log of a training (`--log-format simple`) line by line and tells on stderr how far it is.

    total: updates. start: after how many of them R-Drop begins; from there on an update costs RDROP_COST.
    """

    def __init__(self, name: str, total: int, start: int) -> None:
        self.name, self.total, self.start = name, total, start
        self.first: tuple[int, float] | None = None  # update and time from which the speed is measured
        self.shown = -LINE_SECONDS
        self.live = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        self._show(f"{self.name}: starting")
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            print(file=sys.stderr)

    def line(self, text: str) -> None:
        """One line of the log."""
        now = time.monotonic()
        if resumed := RESUMED.search(text):
            self._show(f"{self.name}: going on at update {resumed[1]}")
        if not (found := UPDATE.search(text)):
            return
        done = int(found[1])
        if self.first is None:
            self.first = (done, now)
        values = "".join(f", {name} {value}" for name, value in SHOWN.findall(text))
        left = self.left(done, now)
        if self.live or now - self.shown >= LINE_SECONDS or done == self.total:
            self._show(f"{self.name}: update {done}/{self.total}{values}{left and ', about ' + left + ' left'}")
            self.shown = now

    def left(self, done: int, now: float) -> str:
        """Time left as m:ss; empty until there is a speed to tell it from."""
        assert self.first is not None
        update, since = self.first
        if done <= update:
            return ""
        speed = (self._work(done) - self._work(update)) / (now - since)
        seconds = round((self._work(self.total) - self._work(done)) / speed)
        return f"{seconds // 60}:{seconds % 60:02}"

    def _work(self, done: int) -> float:
        return done + (RDROP_COST - 1) * max(0, done - self.start)

    def _show(self, text: str) -> None:
        if self.live:
            print(f"\r      {text}\033[K", end="", file=sys.stderr, flush=True)
        else:
            print(f"      {text}", file=sys.stderr, flush=True)
