"""Configs of BaCon (Bai et al. 2023, arXiv:2310.01376)."""

from ml_collections import ConfigDict

from contrastive_jax import training
from contrastive_jax.tasks import images

VARIANTS = ("", "smoke", "paper")
METHODS = ("bacon", "uniform", "simgcd", "gcd")
CHECKS = images.checks(
    change=-0.5,
    positive=(
        "data.largest",
        "loss.final_temperature",
        "loss.first_temperature",
        "loss.teacher_warmup",
        "loss.student_temperature",
        "loss.unsupervised_temperature",
        "model.num_classes",
        "eval.rows",
    ),
    not_negative=("loss.power", "kappa", "alpha", "beta", "soft_from", "regularizer"),
    ranges={
        "data.known": "(0, inf)",
        "data.labelled": "(0, 1]",
        "data.ratio": "[1, inf)",
        "loss.supervised": "[0, 1]",
        "loss.pseudo": "[0, inf)",
        "loss.soft": "[0, 1]",
        "estimate_every": "(0, inf)",
    },
    choices={"methods": METHODS, "eval.split": ("test", "held_out")},
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" is MNIST-5k with two long tails."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=3e-3, warmup_steps=20, weight_decay=1e-4),
        train=dict(num_steps=300, save_every=100),
    )
    config.methods = METHODS
    config.data = images.data("mnist5k")
    config.data.held_out = 0.15
    # The first classes are known; within known and new ones sizes fall from `largest`
    # by `ratio`. This share of the rows of known classes has its label.
    config.data.update(known=5, largest=300, ratio=10.0, labelled=0.5)
    config.model = images.small_resnet(grid=2)
    config.model.update(num_classes=10, shared=False)  # one encoder for both branches
    config.loss = dict(
        pseudo=1.0,  # weight of the classifier; 0 leaves the contrastive branch alone
        soft=0.5,  # share of the soft contrast in the supervised part
        supervised=0.35,  # share of what labels say, in both branches
        regularizer=2.0,
        power=1.1,  # of the estimated class sizes in the regularizer; 0: uniform
        kappa=0.5,  # of the debiased labels
        alpha=0.0,
        beta=0.5,
        temperature=0.07,  # of SupCon and the soft contrast
        unsupervised_temperature=0.2,
        student_temperature=0.1,
        first_temperature=0.07,
        final_temperature=0.04,
        teacher_warmup=60,  # steps, as soft_from
        soft_from=40,
    )
    config.estimate_every = 100  # steps between estimates of class sizes
    config.watch = images.watching(every=100)
    # Rows that are clustered and classified; "held_out" is what was chosen on.
    config.eval = dict(split="test", rows=2000, k=20)

    if variant == "smoke":
        config.methods = ("bacon",)
        config.data = images.data("digits", batch_size=64)
        config.data.update(known=5, largest=100, ratio=5.0, labelled=0.5, held_out=0.15)
        config.model.update(
            stage_sizes=(1,), width=8, stem_stride=1, projection=(32, 16)
        )
        config.optim.warmup_steps = 2
        config.loss.update(teacher_warmup=10, soft_from=5, regularizer=1.0)
        config.optim.learning_rate = 1e-2
        config.train.update(num_steps=40, log_every=2, save_every=20)
        config.estimate_every = 20
        config.watch.update(every=20, rows=200)
        config.eval.update(rows=200, k=5)
    elif variant == "paper":
        # CIFAR-100-LT (code's defaults); a ResNet stands for DINO's ViT-B/16, whose
        # weights are not here.
        config.data = images.data("fashion")  # crops and mirror images
        config.data.update(
            name="cifar100",
            data_dir="~/tensorflow_datasets",
            size=32,
            held_out=0.0,  # the largest classes take all rows
            batch_size=256,  # code; 128 by a summary of the paper
            known=80,  # code
            largest=500,
            ratio=100.0,  # section 4
            labelled=0.5,  # code
        )
        config.data.augment.update(
            size=(32, 32),
            crop=images.crop(0.2, "cubic"),
            affine=None,
            flip=0.5,
            jitter=dict(p=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
        )
        config.model.update(
            stage_sizes=(3, 4, 6, 3),
            width=64,
            stem_stride=1,
            grid=1,
            projection=(2048, 2048, 256),  # of the DINO head, without its last map
            num_classes=100,
        )
        config.loss.update(unsupervised_temperature=1.0, regularizer=1.0)  # code
        # 42 steps are an epoch of about 10,800 rows; 30 and 1 epochs (code).
        config.loss.update(teacher_warmup=1260, soft_from=42)
        config.estimate_every = 420  # 10 epochs (code)
        config.optim.update(
            name="sgd",
            learning_rate=0.1,  # code
            momentum=0.9,  # code
            weight_decay=5e-5,  # code
            warmup_steps=0,
        )
        config.train.update(num_steps=8400, log_every=100, save_every=420)  # 200 epochs
        config.watch.update(every=840, rows=10_000)
        config.eval.update(rows=10_000, k=200)
    return config


def paper_batch():
    """A row of the recipe's batch: shape and type of each array."""
    return {"image": ((32, 32, 3), "uint8"), "label": ((), "int32")}
