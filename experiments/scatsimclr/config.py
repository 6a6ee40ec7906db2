"""Configs of ScatSimCLR (Kinakh et al. 2021, arXiv:2108.13939)."""

from ml_collections import ConfigDict

from contrastive_jax import training
from contrastive_jax.tasks import images

VARIANTS = ("", "smoke", "paper")
PRETEXTS = ("rotation", "jigsaw", "")
ENCODERS = ("scattering", "resnet")
# Learning rates are chosen for each encoder by kNN on held-out training rows.
RESNET = {"model.encoder": "resnet", "optim.learning_rate": 1e-2}
# What a method changes in the config; the paper's three columns of two rows.
METHODS = {
    "scatsimclr": {},
    "scatsimclr_jigsaw": {"loss.pretext": "jigsaw"},
    "scatsimclr_alone": {"loss.pretext": ""},
    "simclr_rotation": RESNET,
    "simclr_jigsaw": RESNET | {"loss.pretext": "jigsaw"},
    "simclr": RESNET | {"loss.pretext": ""},
}
CHECKS = images.checks(
    change=-0.3,
    choices={
        "loss.pretext": PRETEXTS,
        "methods": tuple(METHODS),
        "model.encoder": ENCODERS,
    },
    ranges={
        "angles": "(0, inf)",
        "blocks": "(0, inf)",
        "chunk": "[0, inf)",
        "dropout": "[0, 1)",
        "jigsaw_widths": "(0, inf)",
        "loss.every": "(0, inf)",
        "loss.weight": "[0, inf)",
        "max_order": "[1, 2]",
        "permutations": "[2, 1000]",
        "rotation_widths": "(0, inf)",
        "scales": "(0, inf)",
        "start_step": "[0, inf)",
    },
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" is Fashion-MNIST."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=3e-4, warmup_steps=20, weight_decay=1e-4),
        train=dict(num_steps=400, log_every=10, save_every=400),
    )
    config.methods = tuple(METHODS)
    config.data = images.data("fashion", batch_size=64)
    config.data.held_out = 0.05
    config.model = images.small_resnet(encoder="scattering", batch_norm=True)
    config.model.scattering = dict(
        scales=2,
        angles=8,
        max_order=2,
        chunk=4,  # images transformed at a time; fast on a CPU, 0 (all) on a GPU
        normalize=True,  # batch normalization of the coefficients
        width=32,  # channels of the first convolution
        blocks=(32,),  # channels of each residual block
        grid=4,
    )
    # Widths of the pretext head without its classes.
    config.model.pretext = dict(
        rotation_widths=(128, 64), jigsaw_widths=(64, 256), dropout=0.5
    )
    config.loss = dict(
        temperature=0.1,
        pretext="rotation",
        weight=0.3,
        start_step=0,  # first step with the pretext term
        every=4,  # one in so many images has the pretext task
        # Whether an image is turned before its view is drawn, as in the paper. A flip
        # then makes a quarter to the right one to the left.
        turn_first=False,
        permutations=35,
    )
    config.watch = images.watching(every=100)
    config.eval = images.evaluation(train_limit=5000)

    if variant == "smoke":
        images.use_digits(config)
        config.methods = ("scatsimclr",)
        config.data.held_out = 0.1
        config.model.grid = 2
        config.model.scattering.update(angles=2, width=8, blocks=(), grid=2, chunk=0)
        config.model.pretext.update(rotation_widths=(16, 16), dropout=0.1)
        config.optim.learning_rate = 2e-2
    elif variant == "paper":
        # "Paper" is its text, "code" the released repository.
        config.data = images.data("imagenet2012", batch_size=64)  # code
        config.data.update(name="stl10", size=96, test_split="test")  # paper
        # The preset's jitter, gray and blur are the code's.
        config.data.augment.update(size=(96, 96))
        config.data.augment.crop.method = "lanczos3"  # code
        config.model.update(
            stage_sizes=(2, 2, 2, 2),  # paper: the baseline is a ResNet-18
            width=64,
            stem="imagenet",
            stem_stride=2,
            grid=1,
            projection=(2048, 128),  # code
            batch_norm=False,  # code
        )
        config.model.scattering.update(
            scales=2,  # paper, the best of its ablation
            angles=16,  # paper, the best of its ablation
            normalize=False,  # code: made, but never called
            chunk=0,
            width=256,  # code, for 12 blocks and more
            blocks=(128,) * 30,  # code, ScatSimCLR-30
            grid=4,  # code
        )
        config.model.pretext.update(
            rotation_widths=(512, 128),  # code
            jigsaw_widths=(512, 4096),  # code
        )
        config.loss.update(
            temperature=0.5,  # code
            weight=0.3,  # paper
            start_step=65_600,  # paper: after 40 epochs
            every=1,
            turn_first=True,  # code
        )
        config.optim.update(
            learning_rate=3e-4,  # code
            warmup_steps=0,
            weight_decay=1e-5,  # code; there part of the gradient
        )
        # Paper: 1,000 epochs of 105,000 images, of which 5 % are held out.
        config.train.update(num_steps=1_558_000, log_every=100, save_every=5000)
        config.data.held_out = 0.05
        config.watch.update(every=5000, rows=5000)
        config.eval.k = 200
    return config


def paper_batch() -> dict[str, tuple[tuple[int, ...], str]]:
    """A row of the batches of STL-10: shape and type of each array."""
    return {"image": ((96, 96, 3), "uint8"), "label": ((), "int32")}
