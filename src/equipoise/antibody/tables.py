"""Rows of a table in a file: tab-separated, or by commas where its name ends in .csv."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path


def rows_of(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The number of each line that is not empty, and its cells without the blanks and quotes around them.

    Raises:
        ValueError: no such table; the file's name.
    """
    comma = path.suffix.lower() == ".csv"
    # A quote that begins a tab-separated cell is a letter like others: names of antigens have it, and never close it.
    quoting = csv.QUOTE_MINIMAL if comma else csv.QUOTE_NONE
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        lines = csv.reader(file, delimiter="," if comma else "\t", quoting=quoting)
        try:
            for cells in lines:
                if any(cells):
                    yield lines.line_num, [cell.strip().strip('"').strip() for cell in cells]
        except csv.Error as error:
            raise ValueError(f"'{path.name}', line {lines.line_num}: it cannot be read as a table ({error})") from error
