"""Every experiment with what its smoke runs have to show, found by its folder.

The facts stand in the `CHECKS` and `paper_batch` of each experiment's config.py.
"""

import dataclasses
import importlib
import importlib.util
import pathlib

import experiments

ROOT = pathlib.Path(experiments.__file__).parent
NAMES = sorted(p.parent.name for p in ROOT.glob("*/experiment.py"))


def load(name):
    """The config and experiment modules."""
    return (
        importlib.import_module(f"experiments.{name}.config"),
        importlib.import_module(f"experiments.{name}.experiment"),
    )


@dataclasses.dataclass(frozen=True)
class Case:
    """One smoke variant, or one stage of it.

    Attributes:
      experiment: name of the folder.
      variant: name of the variant.
      stage: value of `config.stage`; "" where there is one step.
    """

    experiment: str
    variant: str
    stage: str = ""

    def __str__(self):
        stage = f":{self.stage}" if self.stage else ""
        return f"{self.experiment}:{self.variant}{stage}"

    @property
    def checks(self):
        return load(self.experiment)[0].CHECKS

    @property
    def paper(self):
        """The recipe that belongs to the variant."""
        return self.variant.replace("smoke", "paper")

    def config(self, variant):
        """The config of a variant at the stage of this case."""
        config = load(self.experiment)[0].get_config(variant)
        if self.stage:
            config.stage = self.stage
        return config

    def paper_batch(self):
        """Shape of a row and type of each array of the recipe's batch."""
        return load(self.experiment)[0].paper_batch()

    def stand_in(self, monkeypatch):
        """Stands in for what of the recipe's data is not here.

        A test file of the experiment, test_<name>.py, may define `stand_in`.
        """
        name = f"{__package__}.test_{self.experiment}"
        if importlib.util.find_spec(name):
            module = importlib.import_module(name)
            getattr(module, "stand_in", lambda _: None)(monkeypatch)


# One case per smoke variant, and one per step: of those and of `CHECKS.steps`.
RUNS = [Case(n, v) for n in NAMES for v in load(n)[0].CHECKS.smoke]
STEPS = [
    Case(n, v, stage)
    for n in NAMES
    if hasattr(load(n)[1], "make_step")
    for v in (*load(n)[0].CHECKS.smoke, *load(n)[0].CHECKS.steps)
    for stage in load(n)[0].CHECKS.stages or ("",)
]
