"""Configs of APE (Chen et al. 2016, arXiv:1608.07502)."""

from ml_collections import ConfigDict

from contrastive_jax import training

VARIANTS = ("", "smoke", "paper")
CHECKS = training.Checks(
    metric="loss",
    change=-1.0,
    positive=(
        "eval.num_events",
        "eval.num_trees",
        "loss.num_negatives",
        "model.dim",
        "model.init_scale",
    ),
    not_negative=("loss.sample_power", "loss.score_power"),
    ranges={"test_share": "(0, 1)", "train_share": "(0, 1)"},
    choices={
        "eval.split": ("test", "validation"),
        "loss.noise": ("context", "independent"),
        "model.pair_weights": ("learned", "fixed"),
    },
    free=("data.data_dir", "data.sets"),
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" takes two real sets."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=0.01),
        train=dict(num_steps=3000, log_every=50, save_every=1000),
    )
    config.data = ConfigDict(
        dict(
            sets=("flights", "birdstrikes"),  # `run` takes one after the other
            data_dir="",  # folder of NAME.csv; the packaged sets when empty
            train_share=0.75,  # the earliest events
            test_share=0.15,  # the latest
            batch_size=512,  # released code
        )
    )
    config.model = ConfigDict(dict(dim=10, pair_weights="learned", init_scale=0.05))
    config.loss = ConfigDict(
        dict(
            noise="context",  # or "independent": every entity redrawn
            num_negatives=5,
            sample_power=0.75,  # of the counts that noise is drawn by
            score_power=1.0,  # of those in the loss; equal powers are consistent NCE
        )
    )
    # split "validation" (the events between training and test) is what the values above
    # were chosen on.
    config.eval = ConfigDict(dict(split="test", num_events=5000, num_trees=100))

    if variant == "smoke":
        config.data.update(sets=("synthetic",), batch_size=128)
        config.optim.learning_rate = 0.05
        config.train.update(num_steps=80, log_every=5, save_every=30)
        config.eval.update(num_events=300, num_trees=10)
    elif variant == "paper":
        # Surveillance events of a company, not public: export them as CSV. Two weeks,
        # the first for training (section 4).
        config.data.update(sets=("events",), data_dir="~/events")
        config.data.update(train_share=0.5, test_share=0.5)
        config.model.dim = 10  # released code; the paper chose it on a grid
        config.loss.num_negatives = 5  # released code; the paper chose it on a grid
        config.optim.learning_rate = 0.01  # Adam, released code
        # Released code: 10 epochs; of how many events is not stated. This is for 5
        # million.
        config.train.update(num_steps=97_650, log_every=100, save_every=5000)
    return config


def paper_batch():
    """A row of the recipe's batch: shape and type of each array."""
    return {"event": ((8,), "int32")}


def sweep():
    """Size of embeddings and number of negatives, the grid of the paper."""
    for dim in (5, 10, 20, 40):
        for num_negatives in (1, 5, 10):
            yield {"model.dim": dim, "loss.num_negatives": num_negatives}
