"""Configs of PALM (Lu et al. 2024, arXiv:2402.02653)."""

from ml_collections import ConfigDict

from contrastive_jax import training
from contrastive_jax.tasks import images

VARIANTS = ("", "digits", "coarse", "smoke", "paper")
OBJECTIVES = ("palm", "contrastive", "cross_entropy")
METHODS = (
    "palm",
    "one_prototype",
    "supcon",
    "cross_entropy",
    "palm_unlabelled",
    "simclr",
)
OUTSIDE = ("mnist5k", "animals", "digits", "solar", "fashion", "others")
OUTSIDE += ("svhn_cropped", "places365_small", "dtd")  # of TFDS
CHECKS = images.checks(
    change=-0.2,
    positive=("loss.num_classes", "loss.per_class", "loss.neighbors", "epsilon"),
    not_negative=("loss.topk", "loss.contrast", "data.known", "eval.out_limit"),
    ranges={
        "loss.decay": "[0, 1]",
        "eval.neighbor": "(0, inf)",
        "data.merge": "[1, inf)",
        "data.others": "[0, inf)",
    },
    choices={
        "loss.objective": OBJECTIVES,
        "methods": METHODS,
        "data.out": OUTSIDE,
        "eval.split": ("test", "held_out"),
    },
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" is Fashion-MNIST against four other sets."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=1e-2, warmup_steps=20, weight_decay=1e-4),
        train=dict(num_steps=300, save_every=300),
    )
    config.methods = METHODS
    config.data = images.data("fashion")
    config.data.held_out = 0.05
    # Classes that are trained on (the first ones; 0 for all), and what is not: sets by
    # name, or "others", rows of these other classes.
    config.data.update(known=0, out=("mnist5k", "animals", "digits", "solar"))
    config.data.others = (8, 9)
    config.data.merge = 1  # this many classes in a row make one coarse class
    config.model = images.small_resnet(grid=1)
    config.loss = dict(
        objective="palm",  # "contrastive": SupCon, SimCLR without labels
        labelled=True,
        num_classes=10,
        per_class=6,  # prototypes; 1 turns the mixture off
        topk=5,
        neighbors=5,  # of prototypes, without labels
        decay=0.99,
        temperature=0.1,
        contrast=1.0,
        epsilon=0.05,
    )
    config.watch = images.watching(every=100)
    # Rows of the training set that scores are relative to, of its test set and of each
    # other set (0: all); which neighbor the kNN score takes. The split "held_out", with
    # fewer known classes and others of them outside, is what values were chosen on.
    config.eval = dict(
        split="test",
        train_limit=5000,
        test_limit=2000,
        out_limit=1000,
        neighbor=50,
        k=20,
    )

    if variant == "digits":
        digits(config)
    elif variant == "coarse":  # classes of two kinds each
        digits(config)
        config.data.merge = 2
        config.loss.num_classes = 3
    elif variant == "smoke":
        digits(config)
        config.methods = ("palm",)
        config.train.update(num_steps=40, log_every=5, save_every=20)
    elif variant == "paper":
        config.data.update(
            name="cifar10",
            data_dir="~/tensorflow_datasets",
            size=32,
            held_out=0.0,
            batch_size=512,
            # LSUN and iSUN were crops by other authors, which TFDS has not got.
            out=("svhn_cropped", "places365_small", "dtd"),
        )
        config.data.augment.update(  # the code's: those of SupCon
            size=(32, 32),
            crop=images.crop(0.2, "linear"),
            affine=None,
            flip=0.5,
            jitter=dict(p=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
            gray=0.2,
        )
        # ResNet-34 with a 3 x 3 stem and no pooling, head 512-512-128 (code).
        config.model.update(
            stage_sizes=(3, 4, 6, 3), width=64, stem_stride=1, projection=(512, 128)
        )
        config.model.dtype = "bfloat16"  # mixed precision in the code
        config.loss.decay = 0.999  # code
        config.optim.update(
            name="sgd",
            learning_rate=0.5,  # code
            momentum=0.9,  # code, with Nesterov, which is not here
            weight_decay=1e-6,  # code
            warmup_steps=980,  # 10 epochs (code)
        )
        # 500 epochs of 50,000 images (code).
        config.train.update(num_steps=48_900, log_every=100, save_every=1000)
        config.watch.update(every=2000, rows=10_000)
        config.eval.update(train_limit=0, test_limit=0, out_limit=0, k=200)
    return config


def digits(config: ConfigDict) -> None:
    """Digits 0 to 5 of 8 x 8 pixels against 6 to 9, with a small network."""
    config.data = images.data("digits", batch_size=128)
    config.data.update(known=6, out=("others",), others=(6, 7, 8, 9), merge=1)
    config.data.held_out = 0.15
    config.model.update(stage_sizes=(1,), width=16, stem_stride=1, projection=(32, 32))
    config.loss.num_classes = 6
    config.watch.update(every=20, rows=200)
    config.eval.update(train_limit=0, test_limit=0, out_limit=0, k=5, neighbor=5)


def paper_batch():
    """A row of the recipe's batch: shape and type of each array."""
    return {"image": ((32, 32, 3), "uint8"), "label": ((), "int32")}
