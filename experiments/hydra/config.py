"""Configs of Hydra (Wu et al. 2024, arXiv:2410.18200)."""

from ml_collections import ConfigDict

from contrastive_jax import training
from contrastive_jax.tasks import images

VARIANTS = ("", "emoji", "smoke", "paper")
PAIRS = ("hydra", "no_gate", "hydra_arbitrary", "no_gate_arbitrary")
METHODS = (*PAIRS, "supcon", "simclr")
CHECKS = images.checks(
    change=-0.2,
    positive=("model.embedding", "model.hidden", "compared.rows"),
    choices={
        "loss.mode": ("arbitrary", "distinct", "identical", "view"),
        "loss.normalize": ("before", "after"),
        "model.fuse": ("mean", "product"),
        "compared.methods": METHODS,
    },
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" is Fashion-MNIST."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=1e-2, warmup_steps=20, weight_decay=1e-4),
        train=dict(num_steps=600, save_every=600),
    )
    config.data = images.data("emoji" if variant == "emoji" else "fashion")
    config.model = images.small_resnet(
        grid=2,
        gate=True,  # off: every subspace is the whole space
        fuse="mean",
        embedding=64,
        hidden=128,
    )
    config.loss = dict(
        mode="distinct",  # classes that may meet; "view": SimCLR, without labels
        normalize="before",  # as the current code; "after": the filter of the text
        temperature=0.1,
    )
    # What run() trains; temperature of SupCon and the rows without a gate; test rows of
    # the pictures.
    config.compared = dict(methods=METHODS, temperature=0.3, rows=1000)
    config.watch = images.watching(every=150, rows=1000)
    config.eval = images.evaluation()

    if variant == "":
        config.eval.train_limit = 5000
    elif variant == "smoke":
        images.use_digits(config)
        config.model.update(embedding=16, hidden=16)
        config.optim.learning_rate = 5e-3
        config.train.num_steps = 100
        config.compared.update(methods=("hydra",), rows=200)
    elif variant == "paper":
        paper(config)
    config.data.held_out = 0.0 if variant == "paper" else 0.1
    return config


def paper(config: ConfigDict) -> None:
    """The recipe of the released code for CIFAR-10, as doc/simlap.md has it."""
    config.data.update(name="cifar10", data_dir="~/tensorflow_datasets", size=32)
    config.data.batch_size = 256
    view = config.data.augment
    view.crop, view.jitter = images.crop(0.7, "cubic"), None
    view.update(size=(32, 32), flip=0.5)
    config.model.update(
        stage_sizes=(2, 2, 2, 2),  # ResNet-18; its deep stem is not ours
        width=64,
        stem_stride=1,
        grid=1,
        projection=(2048, 256),
        embedding=512,
        hidden=1024,
    )
    config.loss.mode = "arbitrary"
    config.optim.update(
        learning_rate=1e-3,  # Adam
        warmup_steps=390,  # 2 epochs
        weight_decay=5e-4,
    )
    # 50 epochs of 195 batches.
    config.train.update(num_steps=9750, log_every=100, save_every=975)
    config.watch.update(every=975, rows=5000)
    methods = ("hydra", "no_gate_arbitrary", "supcon")
    config.compared.update(methods=methods, temperature=0.1)


def paper_batch():
    """A row of the batches of CIFAR-10: shape and type of each array."""
    return {"image": ((32, 32, 3), "uint8"), "label": ((), "int32")}
