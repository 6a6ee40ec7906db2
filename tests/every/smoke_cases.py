"""What every experiment's smoke run has to show. A new experiment adds its line."""

import dataclasses

IMAGENET = {"image": ((256, 256, 3), "uint8"), "label": ((), "int32")}

IMAGE_TEXT = {"image": ((1, 224, 224, 3), "uint8"), "tokens": ((76,), "int32")}


@dataclasses.dataclass(frozen=True)
class Smoke:
    """One smoke variant.

    Attributes:
      experiment: name of the folder.
      metric: a training metric, averaged over the first and the last three lines.
      change: how much it must change at least; negative for what has to fall.
      variant: name of the variant.
      paper_batch: a batch of the paper variant: shape behind the first axis and type
        of each array.
    """

    experiment: str
    metric: str
    change: float
    variant: str = "smoke"
    paper_batch: dict = dataclasses.field(default_factory=lambda: IMAGENET)

    @property
    def paper(self):
        """The paper variant that belongs to it."""
        return self.variant.replace("smoke", "paper")

    def __str__(self):
        return f"{self.experiment}:{self.variant}"


CASES = [
    Smoke("ape", "loss", -1.0, paper_batch={"event": ((8,), "int32")}),
    Smoke("clip", "loss", -0.5, paper_batch=IMAGE_TEXT),
    Smoke("meco", "loss", -0.15, paper_batch={"x": ((32, 32, 3), "uint8")}),
    Smoke("moco", "loss", -0.2),
    Smoke("moco", "loss", -0.2, "smoke_v3"),
    Smoke("simclr", "loss", -0.4),
    Smoke("supcon", "loss", -0.4),
    Smoke("template", "loss", -0.5, paper_batch={"image": ((8, 8, 1), "uint8")}),
]
