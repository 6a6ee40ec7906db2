"""What is NaN or infinite: found in the metrics of every step, before it is saved."""

from typing import Any

import numpy as np


class NonFinite(Exception):
    """A metric became NaN or infinite; the message names step and metric."""


def check_finite(pending: list[tuple[int, dict[str, Any]]], saved: int) -> None:
    """Checks the metrics of every step since the last look.

    Args:
      pending: steps and their metrics.
      saved: step of the newest checkpoint, 0 for none.

    Raises:
      NonFinite: naming the first step and, of that step, the first metric.
    """
    for step, values in pending:
        for name, x in values.items():
            if not np.all(np.isfinite(x)):
                kept = f"the newest is that of step {saved}" if saved else "none yet"
                raise NonFinite(
                    f"step {step}: {name} is {float(np.asarray(x))}; stopped "
                    f"(checkpoints: {kept})"
                )
