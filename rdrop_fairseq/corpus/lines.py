"""A function over the lines of parallel files: in order, streaming, with the same bytes for any number of processes.

A line ends at \\n and nowhere else, as in Perl: \\r, \\x0b, \\x0c, \\x1c-\\x1e, \\x85, U+2028, U+2029 stay inside it.
(`str.splitlines` would cut there, and the two sides of a corpus would no longer match.) A last line without \\n counts;
every line written ends in \\n.

Text is UTF-8. The Moses scripts die at the first byte that is not ("Malformed UTF-8 character (fatal)"); here that is a
UserError that names file and line. Halves of UTF-16 pairs that were encoded as UTF-8 (surrogates, ED A0 80 to ED BF BF;
the texts of statmt.org have some) are characters to Perl's :utf8 layer, and so they are here: functions get them, and
remove_nonprinting makes blanks of them as the script does. One that a function leaves in its result is an error: no
later tool could read it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import IO, Any, BinaryIO, Callable, NamedTuple

from tqdm import tqdm

from rdrop_fairseq import files
from rdrop_fairseq.corpus.processes import in_order
from rdrop_fairseq.errors import UserError

# (line, line of the second file, ...) -> the line for each output (a str if there is only one), or None to drop all.
LineFunction = Callable[..., Any]

# Bytes of the first input per task: large enough that reading, handing over and writing cost little (the first process
# could feed about 600,000 lines of 25 words per second), small enough that what is in flight stays in megabytes.
CHUNK_BYTES = 1 << 18
BACKLOG = 3


class Counts(NamedTuple):
    """What was processed: lines (or tuples of lines) read and written, and whitespace-separated tokens per output."""

    read: int
    written: int
    tokens: tuple[int, ...]

    @property
    def dropped(self) -> int:
        """Lines for which the function gave None."""
        return self.read - self.written


class _Chunk(NamedTuple):
    """Consecutive lines of each input, joined by \\n; `first` is the 1-based number of the first of them."""

    first: int
    columns: tuple[bytes, ...]
    names: tuple[str, ...]


class _Result(NamedTuple):
    """Result of a chunk: the bytes for each output, and the counts."""

    read: int
    written: int
    tokens: tuple[int, ...]
    columns: tuple[bytes, ...]


def map_files(
    function: LineFunction,
    inputs: Sequence[Path],
    outputs: Sequence[Path],
    workers: int = 1,
    title: str = "",
) -> Counts:
    """Write `function(line, ...)` for each line of `inputs` (read in step) to `outputs`, in order.

    `function` takes one str per input and returns one str per output (a plain str for a single output), or None to drop
    the tuple from all outputs; it must be picklable where workers > 1. `title` names the progress bar (without: none).
    The outputs appear under their names when all is done.
    Raises UserError for inputs that differ in their number of lines, or are not UTF-8.
    """
    with ExitStack() as stack:
        readers = [stack.enter_context(open_input(path)) for path in inputs]
        writers = [stack.enter_context(files.atomic(path)) for path in outputs]
        size = os.path.getsize(inputs[0])
        bar = tqdm(total=size, desc=title, unit="B", unit_scale=True, disable=not title, mininterval=1.0)
        names = [str(path) for path in inputs]
        return map_streams(function, readers, writers, workers, names, progress=stack.enter_context(bar).update)


def map_streams(
    function: LineFunction,
    readers: Sequence[BinaryIO],
    writers: Sequence[IO[bytes]],
    workers: int = 1,
    names: Sequence[str] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Counts:
    """`map_files` over open binary streams; `progress` is given numbers of bytes of the first input."""
    names = tuple(names) if names else tuple(getattr(reader, "name", "input") for reader in readers)
    chunks = _chunks(readers, names, progress)
    read = written = 0
    tokens = [0] * len(writers)
    for result in _ordered(function, len(writers), chunks, workers):
        for column, (writer, data) in enumerate(zip(writers, result.columns)):
            writer.write(data)
            writer.flush()
            tokens[column] += result.tokens[column]
        read += result.read
        written += result.written
    return Counts(read, written, tuple(tokens))


def open_input(path: Path) -> BinaryIO:
    """Opens a file of text; raises UserError if that fails."""
    try:
        return open(path, "rb")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give the path of a text file") from error


def _blocks(reader: BinaryIO) -> Iterator[bytes]:
    """Whole lines of a stream, without the last \\n: those that are there, so that a pipe stays live."""
    read = getattr(reader, "read1", reader.read)
    rest: list[bytes] = []
    while True:
        block = read(CHUNK_BYTES)
        if not block:
            break
        head, newline, tail = block.rpartition(b"\n")
        if newline:
            rest.append(head)
            yield b"".join(rest)
            rest = [tail]
        else:
            rest.append(block)
    last = b"".join(rest)
    if last:
        yield last


def _chunks(
    readers: Sequence[BinaryIO], names: tuple[str, ...], progress: Callable[[int], object] | None
) -> Iterator[_Chunk]:
    """Cut the streams into chunks with the same number of lines; raises UserError where they do not end together."""
    done = 0
    for block in _blocks(readers[0]):
        rows = block.count(b"\n") + 1
        taken = [list(islice(reader, rows)) for reader in readers[1:]]
        if any(len(column) != rows for column in taken):
            raise _misaligned(readers, names, [done + len(column) for column in ([b""] * rows, *taken)])
        columns = (block, *(b"".join(column).removesuffix(b"\n") for column in taken))
        yield _Chunk(done + 1, columns, names)
        done += rows
        if progress is not None:
            progress(len(block) + 1)
    over = [1 if reader.readline() else 0 for reader in readers[1:]]
    if any(over):
        raise _misaligned(readers, names, [done] + [done + more for more in over])


def _misaligned(readers: Sequence[BinaryIO], names: Sequence[str], so_far: Sequence[int]) -> UserError:
    """Counts the rest of each stream, so that the message has the total numbers."""
    counts = [count + sum(1 for _ in reader) for reader, count in zip(readers, so_far)]
    found = ", ".join(f"{name} has {count} lines" for name, count in zip(names, counts))
    return UserError(f"parallel files must have the same number of lines, but {found}: fetch or make the pair again")


def _ordered(function: LineFunction, outputs: int, chunks: Iterable[_Chunk], workers: int) -> Iterator[_Result]:
    """The results in the order of the chunks, at most BACKLOG chunks per worker held at a time."""
    if workers <= 1:
        return (_apply(function, outputs, chunk) for chunk in chunks)
    start = {"initializer": _start_worker, "initargs": (function, outputs)}
    return in_order(_work, chunks, workers, BACKLOG * workers, **start)


# The job of a worker, set once when it starts: the function may carry tables and caches, too large for each task.
_job: list[tuple[LineFunction, int]] = []


def _start_worker(function: LineFunction, outputs: int) -> None:
    _job[:] = [(function, outputs)]


def _work(chunk: _Chunk) -> _Result:
    function, outputs = _job[0]
    return _apply(function, outputs, chunk)


def _apply(function: LineFunction, outputs: int, chunk: _Chunk) -> _Result:
    columns = [_decode(chunk, index) for index in range(len(chunk.columns))]
    results = [result for result in map(function, *columns) if result is not None]
    written = [results] if outputs == 1 else list(zip(*results)) if results else [()] * outputs
    data = tuple(_encode(chunk, lines) for lines in written)
    tokens = tuple(len(column.split()) for column in data)
    return _Result(len(columns[0]), len(results), tokens, data)


def _encode(chunk: _Chunk, lines: Sequence[str]) -> bytes:
    try:
        return "".join([line + "\n" for line in lines]).encode()
    except UnicodeEncodeError as error:
        found = repr(error.object[error.start])
        where = f"{chunk.names[0]}, within {len(chunk.columns[0].splitlines()):,} lines from line {chunk.first}"
        raise UserError(f"{where}: half a UTF-16 pair ({found}) stands for a character; remove it") from None


def _decode(chunk: _Chunk, index: int) -> list[str]:
    """The lines of one input as text: all at once, or one by one to find the line that is not UTF-8."""
    data = chunk.columns[index]
    try:
        return data.decode(errors="surrogatepass").split("\n")
    except UnicodeDecodeError:
        for number, line in enumerate(data.split(b"\n"), chunk.first):
            try:
                line.decode(errors="surrogatepass")
            except UnicodeDecodeError as error:
                name = chunk.names[index]
                where = f"line {number} of {name} is not UTF-8 (byte {line[error.start]:#04x} at {error.start})"
                raise UserError(f"{where}: convert the file, for example with iconv") from None
        raise
