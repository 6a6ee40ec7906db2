"""Figures of several runs: mean and deviation, and how they are written."""

import math
import statistics
from collections.abc import Mapping
from typing import Any


def summary(values: list[float]) -> dict[str, Any]:
    """Mean, standard deviation of the sample (0 for one value) and the values."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "std": spread, "values": values}


def shown(x: Mapping[str, Any]) -> str:
    """Mean ± standard deviation, to the digits that the deviation leaves certain.

    Examples:
      >>> shown(summary([97.21, 97.35, 96.9]))
      '97.15 ± 0.23'
    """
    mean, std = x["mean"], x["std"]
    if not (math.isfinite(mean) and math.isfinite(std)):
        return f"{mean}"
    scale = std if std > 0 else abs(mean) / 100
    digits = max(0, min(6, 1 - math.floor(math.log10(scale)))) if scale else 1
    text = f"{mean:.{digits}f}"
    return f"{text} ± {std:.{digits}f}" if len(x["values"]) > 1 else text
