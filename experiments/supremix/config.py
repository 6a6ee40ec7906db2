"""Configs of SupReMix (Wu et al. 2023, arXiv:2309.16633)."""

from ml_collections import ConfigDict

from contrastive_jax import training
from contrastive_jax.tasks import images

METHODS = ("supremix", "no_mixtures", "supcon", "rnc", "l1")
VARIANTS = ("", "ablation", "smoke", "paper")
CHECKS = training.Checks(
    change=-0.3,
    not_negative=("bins", "parts"),
    positive=("beta", "few_labels", "map_rows", "rnc_temperature", "widths"),
    ranges=images.RANGES
    | {
        "data.drop": "[0, 1)",
        "data.train_limit": "(0, inf)",
        "windows.agedb": "(0, inf)",
        "windows.angles": "(0, inf)",
        "windows.housing": "(0, inf)",
        "windows.reviews": "(0, inf)",
        "windows.solar": "(0, inf)",
    },
    choices=images.CHOICES
    | {
        "eval.split": ("test", "held_out"),
        "loss.objective": ("supremix", "rnc", "l1"),
        "loss.weight": (
            "none",
            "linear",
            "square",
            "inverse_linear",
            "inverse_square",
        ),
        "methods": (*METHODS, "negatives_only", "positives_only"),
    },
    free=("data.data_dir", "data.sets"),
    optional=images.OPTIONAL,
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" takes four sets."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=1e-2, warmup_steps=20),
        train=dict(num_steps=600, log_every=20, save_every=300),
    )
    config.methods = METHODS
    config.data = ConfigDict(
        dict(
            sets=("angles", "solar", "housing", "reviews"),  # one after the other
            data_dir="",  # folder of agedb.csv, for the paper's set
            batch_size=64,
            train_limit=8000,  # rows at most
            held_out=0.15,  # of the training rows, for choices and while training
            drop=0.2,  # chance that a view of a table's row loses an entry
        )
    )
    view = dict(
        size=None,
        crop=None,
        affine=dict(degrees=0.0, zoom=(0.9, 1.1), shear=0.0, shift=0.1),
        flip=0.0,
        jitter=dict(p=0.8, brightness=0.2, contrast=0.2, saturation=0.0, hue=0.0),
        gray=0.0,
        blur=None,
        solarize=0.0,
    )
    config.data.augment = ConfigDict(images.typed(view))
    config.model = images.small_resnet(width=8, grid=4, projection=(64, 32))
    config.model.widths = (256, 128)  # of the network for rows of tables
    config.loss = ConfigDict(
        dict(
            objective="supremix",
            weight="linear",  # `supremix.label_distance_weight`
            mix_negatives=True,
            mix_positives=True,
            bins=0,  # classes that labels are cut into; 0 takes them as they are
            beta=(2, 8),  # released code, its option 0
            parts=16,  # rows on each side of a label that mix; 0 takes all
            temperature=0.5,  # released code, for AgeDB
            rnc_temperature=2.0,  # of rank-n-contrast, its paper
            # In the unit of the labels; of ordered levels it spans one step.
            windows=dict(angles=8.0, solar=40.0, housing=5.0, reviews=30.0, agedb=5.0),
        )
    )
    config.watch = images.watching(every=150)
    # split "held_out" is what the values above were chosen on.
    config.eval = ConfigDict(dict(split="test", few_labels=50, map_rows=600, k=20))

    if variant == "ablation":
        config.methods = ("supremix", "no_mixtures", "negatives_only", "positives_only")
    elif variant == "smoke":
        config.methods = ("supremix",)
        config.data.update(sets=("angles",), train_limit=200, batch_size=32)
        config.model.update(stage_sizes=(1,))
        config.model.update(projection=(16, 8), widths=(16,))
        config.optim.update(learning_rate=3e-3, warmup_steps=2)
        config.train.update(num_steps=40, log_every=4, save_every=20)
        config.watch.update(every=20, rows=100)
        config.eval.update(few_labels=20, map_rows=60, k=5)
    elif variant == "paper":
        # AgeDB-DIR: agedb.csv (age, path, split) and its pictures, as in the released
        # code; 12,208 for training. What has no comment is the released code's.
        config.data.update(sets=("agedb",), data_dir="~/agedb", batch_size=128)
        config.data.update(train_limit=1_000_000, held_out=0.0)
        config.data.augment.update(
            size=(224, 224), crop=images.crop(0.2, "linear"), flip=0.5, gray=0.2
        )
        config.data.augment.affine = None
        config.data.augment.jitter.update(
            brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1
        )
        config.model.update(
            stage_sizes=(3, 4, 6, 3),
            width=64,
            block="bottleneck",
            stem="imagenet",
            grid=1,
            projection=(2048, 128),
        )
        config.loss.parts = 0
        # There a tenth from epoch 80 of 100 on; here a cosine, as in all experiments.
        config.optim.update(learning_rate=1e-3, warmup_steps=0)
        config.train.update(num_steps=9500, log_every=95, save_every=950)
        config.watch.every = 0
    return config


def paper_batch():
    """A row of the recipe's batch: shape and type of each array."""
    return {"x": ((224, 224, 3), "uint8"), "label": ((), "float32")}


def sweep():
    """The window and the unit that weights count in, which go together."""
    for window in (4.0, 8.0, 16.0):
        for weight in ("none", "linear", "square"):
            yield {"loss.windows.angles": window, "loss.weight": weight}
