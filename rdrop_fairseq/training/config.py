"""An experiment: one YAML of configs/, whose keys are the long options of fairseq-train plus the few of this file.

Values are kept as written (`lr: 5e-4` reaches fairseq as `5e-4`): no YAML typing, so nothing is rounded, and a language
code `no` stays a language.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from rdrop_fairseq.errors import UserError

# Keys that are this project's and not options of fairseq-train.
OWN_KEYS = {
    "data": "default data directory, from the root of the checkout",
    "prepare": "script that makes the data directory",
    "tokens-per-update": "effective batch: target tokens (of one view) per update, over all GPUs",
}
# Options that the launcher computes; a config that fixes one would break on the next machine.
COMPUTED_KEYS = {
    "update-freq": "it follows from tokens-per-update, max-tokens and the number of GPUs",
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

    @property
    def name(self) -> str:
        """The file's name without `.yaml`; also the name of its folder in outputs/."""
        return self.path.stem

    @property
    def tokens_per_update(self) -> Optional[int]:
        """Effective batch in tokens of one view, or None where the config leaves the batch to fairseq's options."""
        text = self.own.get("tokens-per-update")
        if text is None:
            return None
        if not text.isdigit() or int(text) == 0:
            raise UserError(f"{self.path}: tokens-per-update must be a whole number above 0, not {text!r}")
        return int(text)


def find_config(name: str, root: Path) -> Path:
    """The file that `name` means: a path, or a name in `root`/configs. Raises UserError listing what there is."""
    candidates = [Path(name), root / "configs" / name, root / "configs" / f"{name}.yaml"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    known = ", ".join(sorted(path.stem for path in (root / "configs").glob("*.yaml"))) or "none"
    raise UserError(f"no config {name!r}: give a YAML file or one of those in configs/ ({known})")


def read_config(path: Path) -> Experiment:
    """Read one config. Raises UserError with the line for what is not a flat `key: value` file with unique keys."""
    import yaml  # here, so that --help needs no more than the standard library

    try:
        document = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(document, yaml.MappingNode):
        raise UserError(f"{path}: expected lines of `option: value`")
    entries: dict[str, Entry] = {}
    for key_node, value_node in document.value:
        line = key_node.start_mark.line + 1
        key = key_node.value
        if not isinstance(key, str) or not isinstance(value_node, yaml.ScalarNode):
            raise UserError(f"{path}, line {line}: {key!r} must have one plain value (quote lists and braces)")
        if key in entries:
            raise UserError(f"{path}, line {line}: {key} is already set on line {entries[key].line}; remove one")
        if key in COMPUTED_KEYS:
            raise UserError(
                f"{path}, line {line}: {key} does not belong in a config ({COMPUTED_KEYS[key]}); "
                f"give it to train.sh after `--` instead"
            )
        entries[key] = Entry(key, value_node.value, line)
    own = {key: entries[key].value for key in OWN_KEYS if key in entries}
    return Experiment(path, tuple(entry for entry in entries.values() if entry.key not in OWN_KEYS), own)
