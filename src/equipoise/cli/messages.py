"""What commands say beside their result, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable


def warn(warnings: Iterable[str]) -> None:
    """One line a warning."""
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
