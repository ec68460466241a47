"""Puts the tables of finished experiments into docs/leaderboard.md.

    python benchmarks/leaderboard.py runs/malkin2022 runs/madan2023 --machine "two cores of an AMD EPYC"

Each folder is one of `equipoise reproduce --out`, called by its experiment's name. What is between an experiment's
marks on the page is replaced by its table.md, below a line with the commit, the versions and the machine of its runs;
nothing else changes, and an experiment that was not run stays as it is. Runs of several commits name them all.
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


def replaced(page: str, name: str, text: str) -> str:
    """The page with `text` between the marks of an experiment."""
    mark = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not mark.search(page):
        raise SystemExit(f"the page has no marks '<!-- {name} -->' and '<!-- end -->': add a section for it")
    return mark.sub(lambda found: f"{found[1]}\n{text}\n{found[2]}", page, count=1)


def _told(values: Iterable[str | None]) -> str:
    return " and ".join(value for value in dict.fromkeys(values) if value) or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description="Puts the tables of finished experiments into the leaderboard.")
    parser.add_argument("folders", type=Path, nargs="+", help="folders of equipoise reproduce")
    parser.add_argument("--machine", required=True, help="what they were run on, in words")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page")
    options = parser.parse_args()
    page = options.page.read_text()
    for folder in options.folders:
        page = replaced(page, folder.resolve().name, section(folder, options.machine))
    options.page.write_text(page)


if __name__ == "__main__":
    main()
