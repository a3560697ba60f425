"""`--help` from the standard library alone: every other module is replaced by a stand-in while its command is imported.

An option parser needs neither torch nor numpy nor tqdm, but its module imports them. With stand-ins, help works before
anything is installed, and does not wait seconds for torch once it is. Only for a process that prints help
and ends: `python -m rdrop_fairseq COMMAND --help`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Optional

OWN = __name__.partition(".")[0]


def asks_for_help(argv: Sequence[str]) -> bool:
    """Whether -h or --help is among the command's own options; what follows `--` belongs to another program."""
    own = argv[: argv.index("--")] if "--" in argv else argv
    return "-h" in own or "--help" in own


def install() -> None:
    """From here on this process imports stand-ins for everything but the standard library and this package."""
    sys.meta_path.insert(0, Finder())


def standard_modules() -> frozenset[str]:
    """Top-level names of the standard library."""
    known: Optional[frozenset[str]] = getattr(sys, "stdlib_module_names", None)  # Python 3.10 and later
    if known is not None:
        return known
    folder = Path(os.__file__).parent
    files = [*folder.iterdir(), *(folder / "lib-dynload").glob("*")]
    return frozenset(path.name.partition(".")[0] for path in files).union(sys.builtin_module_names)


class StandIn:
    """Stands for any attribute of a module while that is imported: can be called, subscripted, subclassed, compared."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> StandIn:
        return self

    def __getattr__(self, name: str) -> StandIn:
        if name.startswith("__"):  # Python itself asks for these, to learn what an object can do
            raise AttributeError(name)
        return self

    def __getitem__(self, _: Any) -> StandIn:
        return self

    def __or__(self, _: Any) -> StandIn:
        return self

    __ror__ = __or__

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __mro_entries__(self, _: Any) -> tuple[type, ...]:
        return (StandIn,)


class StandInModule(ModuleType):
    """A module that has every attribute."""

    def __getattr__(self, name: str) -> StandIn:
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn()


class Finder:
    """First on sys.meta_path: finds a stand-in for every module that may not be installed."""

    def __init__(self) -> None:
        self.standard = standard_modules()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Optional[ModuleSpec]:
        """None for the standard library and this package: Python then asks the next finder."""
        if name.partition(".")[0] in {OWN, *self.standard}:
            return None
        return ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]  # create_module and exec_module suffice

    def create_module(self, spec: ModuleSpec) -> StandInModule:
        """An empty module."""
        return StandInModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is executed."""
