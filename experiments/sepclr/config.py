"""Configs of SepCLR (Louiset et al. 2024, arXiv:2402.11928)."""

from ml_collections import ConfigDict

from contrastive_jax import training
from contrastive_jax.tasks import images

METHODS = ("sepclr", "no_jem", "common_only", "cvae")
VARIANTS = ("", "ablation", "digits", "smoke", "paper")
CHECKS = training.Checks(
    change=-1.0,
    positive=("dim", "map_rows", "projection", "rows_of_a_set", "tau"),
    not_negative=("information_less_weight", "jem_weight", "salient_weight"),
    ranges=images.RANGES,
    choices=images.CHOICES
    | {
        "eval.split": ("test", "held_out"),
        "loss.objective": ("sepclr", "cvae"),
        "methods": METHODS,
    },
    free=("data.data_dir", "data.sets"),
    optional=images.OPTIONAL,
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" takes two sets."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=3e-3),
        train=dict(num_steps=300, log_every=10, save_every=150),
    )
    config.methods = ("sepclr", "no_jem", "cvae")
    config.data = ConfigDict(
        dict(
            sets=("layers", "solar"),  # one after the other
            data_dir="",  # folder of TFDS sets, for the paper's
            batch_size=128,
            rows_of_a_set=3000,  # background and target rows at most, for training
            held_out=0.15,  # of the training rows, for choices and while training
        )
    )
    view = dict(
        size=None,
        crop=images.crop(0.6, "linear"),
        affine=None,
        flip=0.0,
        jitter=dict(p=0.8, brightness=0.4, contrast=0.4, saturation=0.0, hue=0.0),
        gray=0.0,
        blur=None,
        solarize=0.0,
    )
    config.data.augment = ConfigDict(images.typed(view))
    # Of either encoder; `dim` numbers are the representation.
    config.model = images.small_resnet(width=8, projection=(128,))
    config.model.dim = 16
    config.loss = ConfigDict(
        dict(
            objective="sepclr",
            salient_weight=1.0,  # these three: as released for CheXpert
            information_less_weight=10.0,
            jem_weight=10.0,  # k-JEM; 0 turns it off
            tau=0.5,
        )
    )
    config.watch = images.watching(every=100)
    # split "held_out" is what the values above were chosen on.
    config.eval = ConfigDict(dict(split="test", map_rows=500, k=20))

    if variant == "ablation":
        config.methods = ("sepclr", "no_jem", "common_only")
    elif variant == "digits":
        config.data.sets = ("digits",)
        config.data.rows_of_a_set = 1500
        config.model.update(stem_stride=1, grid=2)
    elif variant == "smoke":
        config.methods = ("sepclr",)
        config.data.update(sets=("digits",), rows_of_a_set=150, batch_size=32)
        config.model.update(
            stage_sizes=(1,), stem_stride=1, grid=1, projection=(16,), dim=4
        )
        config.optim.learning_rate = 1e-2
        config.train.update(num_steps=30, log_every=3, save_every=15)
        config.watch.update(every=15, rows=100)
        config.eval.update(map_rows=60, k=5)
    elif variant == "paper":
        # CIFAR-10 under MNIST, table 1; what has no comment is the released code's.
        config.data.update(
            sets=("cifar_mnist",), data_dir="~/tensorflow_datasets", batch_size=512
        )
        config.data.update(rows_of_a_set=25_000, held_out=0.0)
        config.data.augment.update(
            size=(24, 24), crop=images.crop(0.2, "linear"), flip=0.5, gray=0.2
        )
        config.data.augment.jitter.update(saturation=0.4, hue=0.1)
        # Two ResNet-18, a projection of 128 and 32 units.
        config.model.update(stage_sizes=(2, 2, 2, 2), width=64, stem_stride=1)
        config.model.update(grid=1, dim=32)
        config.loss.update(salient_weight=1000.0, information_less_weight=1000.0)
        # There the rate is constant; here a cosine, as in all experiments.
        config.optim.learning_rate = 3e-4
        # 250 epochs of 50,000 images.
        config.train.update(num_steps=24_250, log_every=97, save_every=970)
        config.watch.every = 0
    return config


def paper_batch():
    """A row of the recipe's batch: shape and type of each array."""
    return {"image": ((32, 32, 3), "uint8"), "is_target": ((), "bool")}


def sweep():
    """Weight of k-JEM, up to where the common side loses its own factor."""
    for jem_weight in (0.0, 1.0, 3.0, 10.0, 30.0):
        yield {"loss.jem_weight": jem_weight}
