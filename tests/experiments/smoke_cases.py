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
      paper_rows: rows of the batch with which one step of it is run on a CPU.
      stages: values of `config.stage` whose steps differ; none when there is one step.
    """

    experiment: str
    metric: str
    change: float
    variant: str = "smoke"
    paper_batch: dict = dataclasses.field(default_factory=lambda: IMAGENET)
    paper_rows: int = 8
    stages: tuple[str, ...] = ()

    @property
    def paper(self):
        """The paper variant that belongs to it."""
        return self.variant.replace("smoke", "paper")

    def __str__(self):
        stage = f":{self.stages[0]}" if len(self.stages) == 1 else ""
        return f"{self.experiment}:{self.variant}{stage}"

    def config(self, module, variant):
        """The config of a variant, of the last of the stages if there are several."""
        config = module.get_config(variant)
        if self.stages:
            config.stage = self.stages[-1]
        return config

    def each_stage(self):
        """One case per stage, for what concerns a single step."""
        if not self.stages:
            return [self]
        return [dataclasses.replace(self, stages=(stage,)) for stage in self.stages]


CASES = [
    Smoke("ape", "loss", -1.0, paper_batch={"event": ((8,), "int32")}),
    Smoke("clip", "loss", -0.5, paper_batch=IMAGE_TEXT),
    Smoke("meco", "loss", -0.15, paper_batch={"x": ((32, 32, 3), "uint8")}),
    Smoke(
        "edlm",
        "loss",
        -0.3,
        paper_batch={"tokens": ((1024,), "int32")},
        paper_rows=1,  # 3.8 GB a row
        stages=("mdlm", "ar", "nce"),
    ),
    Smoke("moco", "loss", -0.2),
    Smoke("moco", "loss", -0.2, "smoke_v3"),
    Smoke("simclr", "loss", -0.4),
    Smoke("supcon", "loss", -0.4),
    Smoke("template", "loss", -0.5, paper_batch={"image": ((8, 8, 1), "uint8")}),
]
