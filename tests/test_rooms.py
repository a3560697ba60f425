"""The house: a room imports only rooms below it."""

from __future__ import annotations

import ast

from rdrop_fairseq.files import PACKAGE

# From the ground up.
ROOMS = (
    "errors", "files", "compat", "checkpoint", "published", "loss", "rouge", "corpus", "views", "criterions", "tasks",
    "scoring", "summarizing", "understanding", "training", "vision", "ablation", "experiments", "benchmark", "checks",
)  # fmt: skip
# Not rooms: registration, the command line, and what stands in for modules while it prints help.
ROOF = {"__init__", "__main__", "stand_ins"}


def imports():
    """(file, its room, the room it imports from) of every import within the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rdrop_fairseq":
                below = node.module.split(".")[1:] or [alias.name for alias in node.names]
                for room in below[:1] if len(node.module.split(".")) > 1 else below:
                    yield str(name), name.parts[0].removesuffix(".py"), room


def test_no_import_runs_up():
    found = [(file, room, other) for file, room, other in imports() if room not in ROOF and other in ROOMS]
    assert len(found) > 200
    assert not [each for each in found if ROOMS.index(each[2]) > ROOMS.index(each[1])]


def test_every_room_has_its_place():
    rooms = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.suffix == ".py" or
             (path / "__init__.py").exists()}  # fmt: skip
    assert rooms == {*ROOMS, *ROOF}
