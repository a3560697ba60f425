"""An experiment: a YAML file of configs/. Its keys are fairseq-train's long options and the few in OWN_KEYS.

Values are kept as written (`lr: 5e-4` reaches fairseq as `5e-4`): no YAML typing, so nothing is rounded, and a language
code `no` stays a language. A file may stand for many experiments: see family.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from rdrop_fairseq.errors import UserError
from rdrop_fairseq.training import family

# Keys of this project; fairseq-train does not know them.
OWN_KEYS = {
    "data": "default data directory, from the root of the checkout",
    "prepare": "script that makes the data directory",
    "tokens-per-update": "effective batch: target tokens (of one view) per update, over all GPUs",
    "sentences-per-update": "effective batch: sentences (of one view) per update, over all GPUs",
}
# Options that the launcher computes; a config that fixes one would break on the next machine.
COMPUTED_KEYS = {
    "update-freq": "it follows from the batch per update, the batch per GPU and the number of GPUs",
    "fp16": "the precision follows from the device",
    "bf16": "the precision follows from the device",
    "distributed-world-size": "it is the number of GPUs found",
    "user-dir": "it is always this package",
    "save-dir": "it is outputs/NAME unless --save-dir is given",
}


@dataclass(frozen=True)
class Entry:
    """One `key: value` of a config and the line it stands on."""

    key: str
    value: str
    line: int


@dataclass(frozen=True)
class Experiment:
    """A config as read: fairseq's options in the order of the file, and this project's own keys."""

    path: Path
    options: tuple[Entry, ...]
    own: dict[str, str]
    member: str = ""

    @property
    def name(self) -> str:
        """The file's name without `.yaml`, or the family member's; also its folder in outputs/."""
        return self.member or self.path.stem

    @property
    def per_update(self) -> tuple[Optional[int], str]:
        """The effective batch of one view, None if the config fixes none, and its unit: tokens or sentences."""
        unit = "sentences" if "sentences-per-update" in self.own else "tokens"
        text = self.own.get(f"{unit}-per-update")
        if text is not None and (not text.isdigit() or int(text) == 0):
            raise UserError(f"{self.path}: {unit}-per-update must be a whole number above 0, not {text!r}")
        return None if text is None else int(text), unit


def find_config(name: str, root: Path) -> Path:
    """The file for `name`: a path, a name in `root`/configs, or the family that has it as a member.

    Raises UserError listing the known names.
    """
    candidates = [Path(name), root / "configs" / name, root / "configs" / f"{name}.yaml"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    for folder in (Path(name).parent, (root / "configs" / name).parent):
        for path in family.families(folder):
            if family.choices(path, Path(name).name) is not None:
                return path
    raise UserError(
        f"no config {name!r}: give a YAML file or one of those in configs/ ({', '.join(names(root)) or 'none'})"
    )


def names(root: Path) -> list[str]:
    """All experiments of `root`/configs, each member of a family by its own name."""
    found = []
    for path in (root / "configs").glob("*.yaml"):
        if not family.axes(path):
            found.append(path.stem)
            continue
        tables, _ = _split(path, _document(path).value)
        found += family.members(path, {axis: [key.value for key, _ in table.value] for axis, table in tables.items()})
    return sorted(found)


def read_config(path: Path, name: str = "") -> Experiment:
    """Read one config; of a family, the member `name`.

    Raises UserError with the line for what is not a flat `key: value` file with unique keys, and for a word that an
    axis of the family does not have.
    """
    tables, shared = _split(path, _document(path).value)
    member = Path(name).name.removesuffix(".yaml") if tables else ""
    chosen = family.choices(path, member) or {}
    if len(chosen) != len(tables):
        raise UserError(f"{path} stands for many experiments: give the name of one of them ({_example(path, tables)})")
    entries = _entries(path, shared, chosen)
    for axis, table in tables.items():
        words = {key.value: value for key, value in table.value}
        if chosen[axis] not in words:
            raise UserError(f"{path} has no {chosen[axis]} in {axis}: choose one of {', '.join(words)}")
        entries.update(_entries(path, words[chosen[axis]].value, chosen))
    own = {key: entries[key].value for key in OWN_KEYS if key in entries}
    options = tuple(entry for entry in entries.values() if entry.key not in OWN_KEYS)
    return Experiment(path, options, own, member)


def _document(path: Path) -> Any:
    import yaml  # here, so that --help needs no more than the standard library

    try:
        document = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(document, yaml.MappingNode):
        raise UserError(f"{path}: expected lines of `option: value`")
    return document


def _split(path: Path, nodes: list[Any]) -> tuple[dict[str, Any], list[Any]]:
    """The tables of a family's axes, in the order of the file, and the pairs of nodes that are not tables."""
    wanted = family.axes(path)
    tables = {key.value: value for key, value in nodes if key.value in wanted}
    for axis in wanted:
        words = tables[axis].value if axis in tables else ()
        if not words or any(not isinstance(value.value, list) for _, value in words):
            raise UserError(f"{path}: its name has the axis {axis}, so it needs a table {axis} of words with options")
    return tables, [pair for pair in nodes if pair[0].value not in wanted]


def _entries(path: Path, nodes: list[Any], chosen: dict[str, str]) -> dict[str, Entry]:
    """By key, the chosen words filled in. Raises UserError for what is not `key: value` or does not belong here."""
    entries: dict[str, Entry] = {}
    for key_node, value_node in nodes:
        line = key_node.start_mark.line + 1
        key, value = key_node.value, value_node.value
        if not isinstance(key, str) or not isinstance(value, str):
            raise UserError(f"{path}, line {line}: {key!r} must have one plain value (quote lists and braces)")
        if key in entries:
            raise UserError(f"{path}, line {line}: {key} is already set on line {entries[key].line}; remove one")
        if key in COMPUTED_KEYS:
            raise UserError(
                f"{path}, line {line}: {key} does not belong in a config ({COMPUTED_KEYS[key]}); "
                f"give it to train.sh after `--` instead"
            )
        for axis, word in chosen.items():
            value = value.replace(f"{{{axis}}}", word)
        entries[key] = Entry(key, value, line)
    return entries


def _example(path: Path, tables: dict[str, Any]) -> str:
    words = {axis: [key.value for key, _ in table.value][:1] for axis, table in tables.items()}
    return next(family.members(path, words)) + ", ..."
