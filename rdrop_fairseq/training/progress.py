"""A progress line for a running fairseq-train: updates done, losses, time left."""

from __future__ import annotations

import re
import sys
import time

UPDATE = re.compile(r"\bnum_updates=(\d+)")
RESUMED = re.compile(r"Loaded checkpoint .* @ ([1-9]\d*) updates")
SHOWN = re.compile(r"\b(nll_loss|rdrop_kl)=([\d.]+)")
# An R-Drop update in updates of plain training, with a model of two layers on two cores (0.115 s and 0.065 s).
RDROP_COST = 1.8
LINE_SECONDS = 20.0  # between lines if stderr is no terminal, whose line could be rewritten


class Progress:
    """Reads a training's log (`--log-format simple`) line by line and shows its progress on stderr.

    total: updates, 0 without a limit. start: the update at which R-Drop begins; each later one costs RDROP_COST.
    seconds: time left of a training that ends by time, None for one that ends by updates.
    """

    def __init__(self, name: str, total: int, start: int, seconds: float | None = None) -> None:
        self.name, self.total, self.start = name, total, start
        self.seconds = seconds
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
            self._show(f"{self.name}: resuming at update {resumed[1]}")
        if not (found := UPDATE.search(text)):
            return
        done = int(found[1])
        if self.first is None:
            self.first = (done, now)
        values = "".join(f", {name} {value}" for name, value in SHOWN.findall(text))
        left = self.left(done, now)
        if self.live or now - self.shown >= LINE_SECONDS or done == self.total:
            of = f"/{self.total}" if self.total else ""
            self._show(f"{self.name}: update {done}{of}{values}{left and ', about ' + left + ' left'}")
            self.shown = now

    def left(self, done: int, now: float) -> str:
        """Time left as m:ss; empty until the speed is known."""
        assert self.first is not None
        update, since = self.first
        if self.seconds is not None:
            return _minutes(max(0.0, self.seconds - (now - since)))
        if done <= update:
            return ""
        speed = (self._work(done) - self._work(update)) / (now - since)
        return _minutes((self._work(self.total) - self._work(done)) / speed)

    def _work(self, done: int) -> float:
        return done + (RDROP_COST - 1) * max(0, done - self.start)

    def _show(self, text: str) -> None:
        if self.live:
            print(f"\r      {text}\033[K", end="", file=sys.stderr, flush=True)
        else:
            print(f"      {text}", file=sys.stderr, flush=True)


def _minutes(seconds: float) -> str:
    return f"{round(seconds) // 60}:{round(seconds) % 60:02}"
