"""Configs of CLIP (Radford et al. 2021, arXiv:2103.00020)."""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from contrastive_jax import training
from contrastive_jax.tasks import images

VARIANTS = ("", "smoke", "paper")
CHECKS = training.Checks(
    metric="loss",
    change=-0.5,
    positive=(
        "data.size",
        "data.tokens",
        "data.vocabulary",
        "depth",
        "heads",
        "loss.max_scale",
        "loss.memory_gb",
        "model.dim",
        "patch",
        "stem_stride",
    ),
    not_negative=("data.vocabulary_rows", "eval.limit", "stage_sizes"),
    ranges=images.VIEW_RANGES
    | {"data.word_dropout": "[0, 1]", "eval.held_out": "[0, 1)"},
    choices=images.CHOICES
    | {
        "loss.objective": ("clip", "siglip"),
        "loss.baseline": ("", "clip", "siglip"),
        "loss.exchange": ("auto", "dense", "tiles", "ring"),
        "tower": ("resnet", "vit"),
        "pool": ("end", "mean"),
    },
    free=images.FREE,
    optional=images.OPTIONAL,
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" is emoji of two vendors."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(
            learning_rate=2e-3, warmup_steps=50, weight_decay=0.05, b2=0.98, eps=1e-6
        ),
        train=dict(num_steps=300, log_every=10, save_every=100),
    )
    config.data = ConfigDict(
        dict(
            name="emoji",
            data_dir="",  # a TFDS folder; emoji, or csv:FILE or jsonl:FILE, when empty
            features=("image", "caption"),  # names of the columns, or TFDS features
            test_split="test",
            size=32,
            tokens=16,  # length of a caption
            vocabulary=4000,  # at most; words of the training captions
            vocabulary_rows=0,  # captions it is built from; 0 for all
            batch_size=128,
            word_dropout=0.3,  # share of a caption's words that a step takes as unknown
            # No mirror images: arrows and faces look somewhere, and captions say where.
            augment=dict(
                size=placeholder(tuple),
                crop=placeholder(ConfigDict),
                affine=dict(degrees=12.0, zoom=(0.8, 1.25), shear=0.1, shift=0.1),
                flip=0.0,
                jitter=dict(
                    p=0.8, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02
                ),
                gray=0.05,
                blur=placeholder(ConfigDict),
                solarize=0.0,
            ),
        )
    )
    config.model = ConfigDict(
        dict(
            dim=128,
            dtype="float32",
            image=dict(
                tower="resnet",
                stage_sizes=(1, 1, 1),
                width=24,
                block="basic",
                stem="cifar",
                stem_stride=2,
                norm="group",
            ),
            text=dict(width=96, depth=1, heads=4, causal=False, pool="mean"),
        )
    )
    config.loss = ConfigDict(
        dict(
            objective="clip",  # or "siglip"
            baseline="siglip",  # trained as well, with the same budget; "" for none
            temperature=0.07,  # where it starts
            max_scale=100.0,  # section 2.5
            exchange="auto",  # between devices: "dense", "tiles", "ring" or by size
            memory_gb=16.0,  # of one device, for that choice
            chunk_size=0,  # pairs a device encodes at a time; 0: all at once
        )
    )
    # held_out > 0 reports on that share of the training concepts instead of the test
    # concepts: what the values above were chosen on. Rows of 0: all.
    config.eval = ConfigDict(dict(held_out=0.0, limit=0))

    if variant == "smoke":
        config.data.update(size=16, batch_size=64, tokens=12, word_dropout=0.1)
        config.data.augment.affine = config.data.augment.jitter = None
        config.data.augment.gray = 0.0
        config.model.dim = 32
        config.model.image.update(stage_sizes=(1,), width=8, stem_stride=2)
        config.model.text.update(width=32, depth=1, heads=2)
        config.loss.baseline = ""
        config.optim.update(learning_rate=6e-3, warmup_steps=20)
        config.train.update(num_steps=100, log_every=10, save_every=50)
        config.eval.limit = 100
    elif variant == "paper":
        config.data.update(
            name="image_text",  # the 400 million pairs of the paper are not public
            data_dir="~/tensorflow_datasets",
            size=224,  # table 20
            tokens=76,  # section 2.4
            vocabulary=49_408,  # table 18; section 2.4 says 49,152
            vocabulary_rows=1_000_000,  # not stated; of byte pairs in the paper
            batch_size=32_768,  # section 2.5
            word_dropout=0.0,
        )
        # Section 2.4: a random square crop of the resized image and nothing else; its
        # range is not stated.
        config.data.augment.crop = ConfigDict(
            dict(scale=(0.9, 1.0), ratio=(1.0, 1.0), method="cubic")
        )
        config.data.augment.affine = config.data.augment.jitter = None
        config.data.augment.gray = 0.0
        config.model = ConfigDict(
            dict(
                dim=512,  # table 20, ViT-B/32
                dtype="bfloat16",  # section 2.5: mixed precision
                image=dict(tower="vit", patch=32, width=768, depth=12, heads=12),
                text=dict(width=512, depth=12, heads=8, causal=True, pool="end"),
            )
        )
        config.loss.update(baseline="", chunk_size=128)  # chunks: ours
        config.optim.update(
            learning_rate=5e-4,  # table 20
            warmup_steps=2000,  # table 18
            weight_decay=0.2,  # table 18
            b1=0.9,  # table 18
            b2=0.98,  # table 18, ViT
            eps=1e-6,  # table 18, ViT
        )
        # Section 2.5: 32 epochs of 400 million pairs.
        config.train.update(num_steps=390_625, log_every=100, save_every=2000)
        config.eval.limit = 5000
    return config


def paper_batch():
    """A row of the recipe's batch: shape and type of each array."""
    return {"image": ((1, 224, 224, 3), "uint8"), "tokens": ((76,), "int32")}


def sweep():
    """Both objectives, and starting temperatures around the published one."""
    for objective in ("clip", "siglip"):
        for temperature in (0.05, 0.07, 0.1, 0.2):
            yield {"loss.objective": objective, "loss.temperature": temperature}
