"""The run folder: plain files that say what was run, how it went, and where to take it up again.

`config.yaml`, `environment.json`, `metrics.jsonl`, `checkpoints/step-N.safetensors` with `step-N.json` beside it
(its sha256 and the length of metrics.jsonl at that moment), `samples/`, `plots/`, `DONE`. Files that matter are
written aside and renamed; a checkpoint without its json does not count.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from equipoise.trajectories import from_bytes, to_bytes

KEPT = 3
"""Checkpoints that stay; older ones go."""


class RunFolder:
    """One run's folder.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, config: Mapping[str, Any], environment: Mapping[str, Any]) -> RunFolder:
        """Makes a new run folder.

        Raises:
            FileExistsError: the folder holds anything at all.
        """
        require_free(path)
        path.mkdir(parents=True, exist_ok=True)
        folder = cls(path)
        write_whole(path / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False).encode())
        write_whole(path / "environment.json", (json.dumps(dict(environment), indent=2) + "\n").encode())
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run.

        Raises:
            FileNotFoundError: no run there.
        """
        if not (path / "config.yaml").is_file():
            raise FileNotFoundError(f"'{path}' holds no run: no config.yaml in it")
        return cls(path)

    def config(self) -> dict[str, Any]:
        """The complete configuration.

        Raises:
            ValueError: config.yaml is not a mapping.
        """
        return read_yaml(self.path / "config.yaml")

    def log(self, record: Mapping[str, Any]) -> None:
        """Appends one line to metrics.jsonl."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(dict(record)) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Every whole line of metrics.jsonl; a line cut short by a kill is left out.

        Raises:
            ValueError: a line that is not JSON, by its number.
        """
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return []
        records = []
        for number, line in enumerate(path.read_text().split("\n")[:-1], 1):
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(f"'{path}', line {number} is not JSON: {error}") from error
        return records

    def save(self, step: int, state: dict[str, Any], seconds: Mapping[str, float]) -> Path:
        """Writes a checkpoint, then its json with the `seconds` spent so far; keeps the last `KEPT`."""
        folder = self.path / "checkpoints"
        folder.mkdir(exist_ok=True)
        blob = to_bytes(state)
        path = folder / f"step-{step:08d}.safetensors"
        write_whole(path, blob)
        metrics = self.path / "metrics.jsonl"
        about = {
            "step": step,
            "sha256": hashlib.sha256(blob).hexdigest(),
            "metrics_bytes": metrics.stat().st_size if metrics.exists() else 0,
            **seconds,
        }
        write_whole(path.with_suffix(".json"), (json.dumps(about) + "\n").encode())
        for old in sorted(folder.glob("step-*.json"))[:-KEPT]:
            old.unlink()
            old.with_suffix(".safetensors").unlink(missing_ok=True)
        return path

    def load(self) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
        """The newest whole checkpoint, what its json says, and one warning for each newer one that is broken.

        Raises:
            ValueError: no whole checkpoint.
        """
        warnings = []
        for path in sorted((self.path / "checkpoints").glob("step-*.safetensors"), reverse=True):
            try:
                return *_read_checkpoint(path), warnings
            except (OSError, ValueError, KeyError, TypeError) as error:
                warnings.append(f"checkpoint '{path}' cannot be used ({error}); the one before is")
        raise ValueError(f"'{self.path}' has no whole checkpoint; it cannot be taken up: train again in another folder")

    def cut_metrics(self, size: int) -> None:
        """Drops what was logged after a checkpoint: a run that is taken up will log it again."""
        path = self.path / "metrics.jsonl"
        if path.exists():
            with path.open("r+b") as file:
                file.truncate(min(size, path.stat().st_size))

    def finish(self, record: Mapping[str, Any]) -> None:
        """Writes DONE."""
        write_whole(self.path / "DONE", (json.dumps(dict(record)) + "\n").encode())

    @property
    def begun(self) -> bool:
        """Whether a checkpoint was ever whole: a run that is killed while it saves its first has not begun."""
        return any((self.path / "checkpoints").glob("step-*.json"))

    @property
    def done(self) -> bool:
        """Whether the run has ended."""
        return (self.path / "DONE").exists()


def require_free(path: Path) -> None:
    """Raises FileExistsError where there is anything at all at `path`."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(
            f"'{path}' is not empty and is never overwritten: give another --out, or 'equipoise resume {path}'"
        )


def write_whole(path: Path, blob: bytes) -> None:
    """Writes a file aside, makes it durable, and renames it: readers see all of it or none.

    Raises:
        OSError: the disk is full or not writable; what was there before stays.
    """
    aside = path.with_name(f".{path.name}.part")
    try:
        with aside.open("wb") as file:
            file.write(blob)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds one mapping.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not YAML, or not a mapping.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file '{path}': give a configuration such as a run's config.yaml")
    try:
        loaded = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, dict):
        raise ValueError(f"'{path}' holds a {type(loaded).__name__}: a mapping of names to values was expected")
    return loaded


def _read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    about = json.loads(path.with_suffix(".json").read_text())
    if not isinstance(about["metrics_bytes"], int):
        raise ValueError("its json is damaged")
    blob = path.read_bytes()
    if hashlib.sha256(blob).hexdigest() != about["sha256"]:
        raise ValueError("its sha256 is not the one that was noted: truncated or changed")
    return from_bytes(blob), about
