"""`equipoise list` and `equipoise cite`."""

from __future__ import annotations

import json
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from equipoise.cli.flags import parse
from equipoise.recipes import configuration, refinements
from equipoise.recipes.bibliography import PAPERS, Paper
from equipoise.recipes.configuration import METHODS, OTHER_METHODS
from equipoise.recipes.experiments import EXPERIMENTS
from equipoise.recipes.mappings import nearest
from equipoise.recipes.papers import names, papers_named, papers_of
from equipoise.recipes.tasks import TASKS


@dataclass(frozen=True)
class List:
    """Lists what can be chosen; or, given a folder, the runs below it."""

    folder: Annotated[Path | None, tyro.conf.Positional] = None
    """folder of runs"""


@dataclass(frozen=True)
class Cite:
    """Prints BibTeX: of a method, residual or task, of what a run used, or of everything."""

    name: Annotated[str | None, tyro.conf.Positional] = None
    """a method, residual, task or paper, or a run folder"""


def listing(words: list[str]) -> int:
    """`equipoise list [FOLDER]`."""
    chosen = parse(List, words, prog="equipoise list")
    print(_choices() if chosen.folder is None else _runs(chosen.folder))
    return 0


def cite(words: list[str]) -> int:
    """`equipoise cite [NAME | RUN]`."""
    name = parse(Cite, words, prog="equipoise cite").name
    if name is None:
        papers = list(PAPERS.values())
    elif (Path(name) / "config.yaml").is_file():
        papers = _papers_of_run(Path(name))
    else:
        papers = papers_named(name)
        if not papers:
            raise ValueError(f"nothing to cite as '{name}'{nearest(name, names())}; known: {', '.join(names())}")
    print("\n\n".join(paper.bibtex() for paper in papers))
    return 0


def _papers_of_run(path: Path) -> list[Paper]:
    from equipoise.recipes.runs import read_config

    task, config = read_config(path)
    residual, log_z = config.choices()
    used = (config.source, *(getattr(config, name, "") for name in ("network", "backward", "search")))
    return papers_of(task=task, method=config.method, residual=residual, loss=config.loss, log_z=log_z, practices=used)


def _choices() -> str:
    tasks = {name: (entry.config.__doc__ or "").splitlines()[0] for name, entry in TASKS.items()}
    methods = {name: f"--residual {residual} --log-z {log_z}" for name, (residual, log_z) in METHODS.items()}
    methods |= OTHER_METHODS
    lines = ["tasks (equipoise train TASK)", *_columns(tasks), "", "methods (--method)", *_columns(methods)]
    for flag, kind in (
        ("--residual", configuration.ResidualName),
        ("--loss", configuration.LossName),
        ("--log-z", configuration.LogZName),
        ("--source", refinements.DiscreteSource),
        ("--search (discrete tasks)", refinements.Search),
        ("--backward (discrete tasks)", refinements.DiscreteBackward),
    ):
        lines += ["", flag, f"  {', '.join(typing.get_args(kind))}"]
    experiments = {name: entry.about for name, entry in EXPERIMENTS.items()}
    return "\n".join([*lines, "", "experiments (equipoise reproduce NAME)", *_columns(experiments)])


def _runs(folder: Path) -> str:
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder '{folder}'")
    paths = sorted(path.parent for path in folder.rglob("config.yaml"))
    if not paths:
        return f"no runs below '{folder}'"
    return "\n".join(_columns({str(path): _summary(path) for path in paths}, indent=""))


def _summary(path: Path) -> str:
    from equipoise.recipes.runs import read_config
    from equipoise.training.folder import RunFolder

    try:
        task, config = read_config(path)
        records = RunFolder(path).metrics()
    except (ValueError, OSError, json.JSONDecodeError) as error:
        return f"cannot be read: {error}"
    last: dict[str, Any] = records[-1] if records else {"step": 0}
    figure = f"  total_variation {last['total_variation']:.4g}" if "total_variation" in last else ""
    residual, log_z = config.choices()
    choices = f"{residual} {config.loss} {log_z}" if residual else config.method
    state = "done" if RunFolder(path).done else f"at step {last['step']} of {config.steps}"
    return f"{task}  {choices} {config.source}  seed {config.seed}  {state}{figure}"


def _columns(rows: dict[str, str], indent: str = "  ") -> list[str]:
    width = max(map(len, rows))
    return [f"{indent}{name:<{width}}  {text}" for name, text in rows.items()]
