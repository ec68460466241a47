"""The house: a room imports only from rooms above it. The imports are read from the source, none is run."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import equipoise

HOUSE = Path(equipoise.__file__).parent
TESTS = Path(__file__).parent
ROOMS = ["objectives", "trajectories", "contracts", "compiling", "data", "sampling", "evaluation"]
ROOMS += ["discrete", "diffusion", "language", "molecules", "antibody", "training", "recipes", "plots", "cli"]
DOMAINS = {"discrete", "diffusion", "language", "molecules", "antibody"}
BETWEEN_DOMAINS = {("molecules", "discrete"), ("antibody", "diffusion")}
OTHER_DOORS = {"partition": "objectives", "trust_pcl": "objectives"}  # modules that only give a room's names again
THIRD_PARTY = {"objectives": {"torch"}, "data": {"numpy"}}  # rooms that say what they import; the others are free
FORBIDDEN_NAMES = {"utils", "helpers", "manager", "base", "misc"}
MOST_LINES = 400


def module_name(file: Path, house: Path) -> str:
    parts = (house.name, *file.relative_to(house).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(file: Path, house: Path) -> Iterator[tuple[int, str]]:
    """Each line and full name that a file imports, wherever in the file and however it is written."""
    package = module_name(file, house).split(".")
    package = package if file.name == "__init__.py" else package[:-1]
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        match node:
            case ast.Import():
                yield from ((node.lineno, alias.name) for alias in node.names)
            case ast.ImportFrom():
                above = package[: len(package) - node.level + 1] if node.level else []
                origin = ".".join([*above, *([node.module] if node.module else [])])
                yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)
            case ast.Call(
                func=ast.Name(id="import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ) if not name.startswith("."):
                yield node.lineno, name


def room_of(name: str) -> str:
    """The room of a module of the house, and "" for the surface itself."""
    part = [*name.split("."), ""][1]
    return "" if part.startswith("__") else OTHER_DOORS.get(part, part)


def objection(room: str, name: str, house: str) -> str | None:
    """Why a room may not import a name; None where it may."""
    top = name.split(".")[0]
    if top != house:
        free = top in sys.stdlib_module_names or room not in THIRD_PARTY or top in THIRD_PARTY[room]
        return None if free else f"{room} imports the standard library and {', '.join(THIRD_PARTY[room])} alone"
    other = room_of(name)
    if other == room or name.startswith(f"{house}.__"):
        return None
    if other not in ROOMS:
        return "the surface is for users: import from the room that defines the name"
    if ROOMS.index(other) > ROOMS.index(room):
        return f"{other} is below {room}"
    if room in DOMAINS and other in DOMAINS and (room, other) not in BETWEEN_DOMAINS:
        return "domains do not import one another"
    if room == "training" and other in DOMAINS:
        return "training imports no domain; recipes join them"
    return None


def violations(house: Path) -> list[str]:
    """Every import that breaks the order, as "file:line imports name: why"."""
    found: list[str] = []
    for file in sorted(house.rglob("*.py")):
        room = room_of(module_name(file, house))
        where = file.relative_to(house.parent)
        if room == "":  # the surface, which resolves names of every room on first use
            continue
        if room not in ROOMS:
            found.append(f"{where}: {room} is no room of the house; the rooms are {', '.join(ROOMS)}")
            continue
        for line, name in imports(file, house):
            why = objection(room, name, house.name)
            if why is not None:
                found.append(f"{where}:{line} imports {name}: {why}")
    return found


def test_a_room_imports_only_from_rooms_above_it() -> None:
    assert violations(HOUSE) == []


def build(house: Path, files: dict[str, str]) -> Path:
    for name, source in files.items():
        file = house / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    return house


@pytest.mark.parametrize(
    ("file", "source", "why"),
    [
        ("objectives/residuals.py", "import numpy", "standard library and torch alone"),
        ("partition.py", "import numpy", "standard library and torch alone"),
        ("objectives/residuals.py", "from equipoise.trajectories import Scores", "trajectories is below objectives"),
        ("trajectories.py", "from equipoise import contracts", "contracts is below trajectories"),
        ("contracts.py", "def f():\n    from .sampling.replay import Replay", "sampling is below contracts"),
        ("data.py", "import requests", "standard library and numpy alone"),
        ("sampling/replay.py", "from ..training import loop", "training is below sampling"),
        ("sampling/deep/more.py", "from ... import cli", "cli is below sampling"),
        ("discrete/exact.py", "import equipoise.training.loop", "training is below discrete"),
        ("language/policy.py", "from equipoise.discrete import exact", "domains do not import one another"),
        ("diffusion/images.py", "from equipoise.antibody import x", "antibody is below diffusion"),
        ("training/engines/ray.py", "from equipoise.language import policy", "training imports no domain"),
        ("training/loop.py", "import importlib\nimportlib.import_module('equipoise.discrete')", "no domain"),
        ("recipes/grid.py", "from equipoise.cli import main", "cli is below recipes"),
        ("recipes/grid.py", "from equipoise import trajectory_balance", "the surface is for users"),
        ("recipes/grid.py", "import equipoise", "the surface is for users"),
        ("losses.py", "", "losses is no room"),
    ],
)
def test_an_import_against_the_order_is_caught(file: str, source: str, why: str, tmp_path: Path) -> None:
    found = violations(build(tmp_path / "equipoise", {file: source}))
    assert len(found) == 1
    assert why in found[0]
    assert file in found[0]


def test_imports_in_the_order_are_let_through(tmp_path: Path) -> None:
    files = {
        "__init__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from equipoise.cli import main",
        "__main__.py": "from equipoise.cli import main",
        "objectives/__init__.py": "from .residuals import x",
        "objectives/residuals.py": "import math\nimport torch\nfrom torch import Tensor",
        "trust_pcl.py": "from equipoise.objectives.trust_pcl import consistency",
        "molecules/fragments.py": "from equipoise.discrete.environments import check\nimport rdkit",
        "antibody/energies.py": "from ..diffusion import processes",
        "training/loop.py": "from equipoise.partition import deviation\nfrom equipoise import __version__",
        "recipes/grid.py": "from equipoise.training import loop\nfrom equipoise.discrete import exact",
    }
    assert violations(build(tmp_path / "equipoise", files)) == []


def too_long_or_misnamed(folder: Path) -> list[str]:
    """Files of more lines than fit, and modules whose name says nothing of what they hold."""
    files = sorted(folder.rglob("*.py"))
    lengths = {file: len(file.read_text().splitlines()) for file in files}
    long = [f"{file} has {lines} lines, at most {MOST_LINES}" for file, lines in lengths.items() if lines > MOST_LINES]
    parts = {file: {*file.relative_to(folder).parts[:-1], file.stem.strip("_")} for file in files}
    return long + [f"{file}: say what it holds" for file in files if parts[file] & FORBIDDEN_NAMES]


def test_files_are_short_and_their_names_say_what_they_hold() -> None:
    assert too_long_or_misnamed(HOUSE) + too_long_or_misnamed(TESTS) == []


def test_a_long_file_and_an_empty_name_are_caught(tmp_path: Path) -> None:
    build(
        tmp_path, {"long.py": "x = 1\n" * 401, "fits.py": "x = 1\n" * 400, "helpers/a.py": "", "sampling/_utils.py": ""}
    )
    found = too_long_or_misnamed(tmp_path)
    assert [line.removeprefix(str(tmp_path)).split()[0] for line in found] == [
        "/long.py",
        "/helpers/a.py:",
        "/sampling/_utils.py:",
    ]


@pytest.mark.parametrize(
    "statements",
    ["import equipoise.cli", "import equipoise.cli, sys; sys.argv = ['equipoise', '--help']; equipoise.cli.main()"],
    ids=["import", "help"],
)
def test_the_help_of_the_command_imports_no_torch(statements: str) -> None:
    spec = importlib.util.find_spec("equipoise.cli")
    if spec is None or spec.origin is None:
        pytest.skip("equipoise.cli is not there")
    code = (
        f"import sys\ntry:\n    {statements}\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
