"""The frame of every benchmark: the machine's facts, a table on stdout, a JSON file.

Figures that depend on the machine stand beside a floor measured in the same run; compare ratios.
"""

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import orjson

from tendril_rt import __version__

_FOLDER = Path("build/bench")


@dataclass
class Report:
    """One benchmark's figures.

    :ivar name: of the benchmark's module, and of the JSON file
    :ivar figures: what goes into the JSON, by stable keys
    """

    name: str
    title: str
    figures: dict[str, float] = field(default_factory=dict)
    _rows: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, key: str, value: float, what: str, unit: str) -> None:
        """Record one figure and its row of the table."""
        self.figures[key] = value
        digits = 2 if unit == "x" else 1  # a ratio
        text = f"{value:,.{digits}f}" if abs(value) < 1e6 else f"{value:.3g}"
        self._rows.append((what, text, unit))

    def add_samples(self, key: str, samples: Sequence[float], what: str, unit: str) -> None:
        """Record the median of *samples*, with minimum and maximum beside it."""
        self.add(f"{key}_min", min(samples), f"{what}, least", unit)
        self.add(key, statistics.median(samples), f"{what}, median of {len(samples)}", unit)
        self.add(f"{key}_max", max(samples), f"{what}, most", unit)

    def finish(self) -> None:
        """Print the table and write ``build/bench/<name>.json``."""
        print(f"\n{self.title}")
        widths = [max(len(row[i]) for row in self._rows) for i in range(3)]
        for what, value, unit in self._rows:
            print(f"  {what:<{widths[0]}}  {value:>{widths[1]}} {unit}")
        _FOLDER.mkdir(parents=True, exist_ok=True)
        path = _FOLDER / f"{self.name}.json"
        content = {**self.figures, "machine": machine()}
        path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
        print(f"  → {path}")


def machine() -> dict[str, object]:
    """Return what a reader needs to judge absolute figures."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "tendril": __version__,
    }
