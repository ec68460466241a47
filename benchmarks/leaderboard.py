"""Puts the tables of finished experiments into docs/leaderboard.md.

    python benchmarks/leaderboard.py runs/malkin2022 runs/madan2023 --machine "two cores of an AMD EPYC"

Each folder is one of `equipoise reproduce --out`, called by its experiment's name. What is between an experiment's
marks on the page is replaced by its table.md, below a line with the commit, the versions and the machine of its runs;
nothing else changes, and an experiment that was not run stays as it is. Runs of several commits name them all. With
--add, rows of runs that the folder does not have stay as well, first, and so do the commits they were made by.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "leaderboard.md"


def section(folder: Path, machine: str) -> str:
    """What an experiment's folder says: where it was run, and its table."""
    environments = [json.loads(path.read_text()) for path in sorted(folder.glob("seed-*/*/environment.json"))]
    if not environments:
        raise SystemExit(f"'{folder}' holds no runs: give a folder of equipoise reproduce")
    commits = _told(environment["commit"] and environment["commit"][:7] for environment in environments)
    versions = _told(environment["torch"] for environment in environments)
    threads = _told(str(environment["threads"]) for environment in environments)
    told = f"Commit {commits}, torch {versions}, {threads} thread, {machine}."
    return f"{told}\n\n{(folder / 'table.md').read_text().strip()}\n"


def replaced(page: str, name: str, text: str, *, add: bool = False) -> str:
    """The page with `text` between the marks of an experiment, after what is only there if `add`."""
    mark = re.compile(rf"(<!-- {re.escape(name)} -->\n)(.*?)(<!-- end -->)", re.DOTALL)
    if not mark.search(page):
        raise SystemExit(f"the page has no marks '<!-- {name} -->' and '<!-- end -->': add a section for it")
    return mark.sub(lambda found: f"{found[1]}\n{added(found[2], text) if add else text}\n{found[3]}", page, count=1)


def added(old: str, new: str) -> str:
    """A section with the rows of another before its own, those of the same run and figure left out.

    Raises:
        SystemExit: the tables have other columns.
    """
    (told, head, before), (present, heading, rows) = _parts(old), _parts(new)
    if head != heading:
        raise SystemExit("the page's table has other columns than the folder's: make all of its rows again")
    labels = {_label(row, head[0]) for row in rows}
    kept = [row for row in before if _label(row, head[0]) not in labels]
    commits = [line.removeprefix("Commit ").split(",")[0] for line in (told, present)]
    every = _told(commit for part in commits for commit in part.split(" and "))
    told = present.replace(f"Commit {commits[1]}", f"Commit {every}", 1)
    return "\n".join([told, "", *head, *kept, *rows, ""])


def _parts(section: str) -> tuple[str, list[str], list[str]]:
    """The line of a section that says where it was run, its table's heading, and the rows."""
    told, _, table = section.strip().partition("\n\n")
    lines = table.splitlines()
    return told, lines[:2], lines[2:]


def _label(row: str, head: str) -> tuple[str, ...]:
    """What names a row: its run, and its figure where that is a column."""
    return tuple(row.strip("|").split("|")[: 2 if "| figure |" in head else 1])


def _told(values: Iterable[str | None]) -> str:
    return " and ".join(value for value in dict.fromkeys(values) if value) or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description="Puts the tables of finished experiments into the leaderboard.")
    parser.add_argument("folders", type=Path, nargs="+", help="folders of equipoise reproduce")
    parser.add_argument("--machine", required=True, help="what they were run on, in words")
    parser.add_argument("--add", action="store_true", help="keep rows of runs that the folders do not have")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page")
    options = parser.parse_args()
    page = options.page.read_text()
    for folder in options.folders:
        page = replaced(page, folder.resolve().name, section(folder, options.machine), add=options.add)
    options.page.write_text(page)


if __name__ == "__main__":
    main()
