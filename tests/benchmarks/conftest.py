"""The scripts of benchmarks/ import one another by name, as they do when they are run from there."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
