"""Configs of the template."""

from ml_collections import ConfigDict

from contrastive_jax import training

VARIANTS = ("", "smoke", "paper")
# What holds: how much the smoke run learns, and what values can be meant.
CHECKS = training.Checks(
    metric="loss",
    change=-0.5,
    positive=("model.widths",),
    not_negative=("data.light",),
    free=("data.name",),  # where choices={"key": ("one", "other")} cannot be listed
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant: "" is our reported run."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=3e-3, warmup_steps=10, weight_decay=1e-4),
        train=dict(num_steps=400, log_every=10, save_every=100),
    )
    config.data = dict(name="digits", batch_size=128, light=1.0)
    config.model = dict(widths=(128, 64))
    config.loss = dict(temperature=0.1)
    config.eval = dict(k=5)

    if variant == "smoke":
        config.data.light = 0.3
        config.optim.learning_rate = 1e-2
        config.train.update(num_steps=40, log_every=5, save_every=20)
    elif variant == "paper":
        # A real paper's values go here, each with the table or section it is from.
        config.data.batch_size = 1024
        config.model.widths = (2048, 2048, 128)
        config.train.num_steps = 10_000
    return config


def paper_batch():
    """A row of the recipe's batch: shape and type of each array."""
    return {"image": ((8, 8, 1), "uint8")}
