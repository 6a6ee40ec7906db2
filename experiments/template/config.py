"""Configs of the template."""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant: "" (our reported run), "smoke" or "paper"."""
    config = ConfigDict()
    config.seed = 0
    config.mapper = "pmap"
    config.devices = 0  # all
    config.data = ConfigDict(dict(name="digits", batch_size=128, noise=0.2))
    config.model = ConfigDict(dict(widths=(128, 64)))
    config.loss = ConfigDict(dict(temperature=0.1))
    config.optim = ConfigDict(
        dict(
            name="adamw",
            learning_rate=3e-3,
            warmup_steps=10,
            weight_decay=1e-4,
            momentum=0.9,
        )
    )
    config.train = ConfigDict(dict(num_steps=400, log_every=10, save_every=100))
    config.eval = ConfigDict(dict(k=5))

    if variant == "":
        pass
    elif variant == "smoke":
        config.optim.update(name="sgd", learning_rate=0.3)
        config.train.update(num_steps=40, log_every=5, save_every=20)
    elif variant == "paper":
        # A real paper's values go here, each with the table or section it is from.
        config.data.batch_size = 1024
        config.model.widths = (2048, 2048, 128)
        config.train.num_steps = 10_000
    else:
        raise ValueError(f'variant: expected "", "smoke" or "paper", got {variant!r}')
    return config
