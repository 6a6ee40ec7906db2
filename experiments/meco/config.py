"""Configs of MECO (Jiang et al. 2023, arXiv:2306.07485)."""

from ml_collections import ConfigDict

from contrastive_jax import training

VARIANTS = ("", "gaussian", "plane", "digits", "smoke", "paper")
CHECKS = training.Checks(
    metric="loss",
    change=-0.15,
    positive=(
        "channels",
        "eval.generated",
        "eval.grid",
        "eval.langevin_step_size",
        "eval.langevin_steps",
        "eval.samples",
        "gaussian.max_steps",
        "gaussian.sgd_seeds",
        "gaussian.sgd_steps",
        "image_inflate",
        "image_steps",
        "inflate",
        "loss.max_weight",
        "meco",  # learning rates of the methods
        "nce",
        "plug_in",
        "widths",
    ),
    not_negative=("noise.components", "noise.image_components"),
    ranges={"gaussian.means": "(-inf, inf)", "loss.gamma": "(0, 1]"},
    choices={
        "gaussian.sgd": ("meco", "storm", "plug_in", "nce", "nce_lr1"),
        "loss.estimator": ("moving_average", "storm"),
        "loss.objective": ("likelihood", "nce"),
    },
    free=("data.data_dir", "data.name", "data.sets", "model.relative"),
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" is everything, the next three are its parts."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=3e-3),
        train=dict(num_steps=1000, log_every=25, save_every=500),
    )
    # The 1-D problem: means of the data, where descent is given up, seeds of SGD.
    config.gaussian = ConfigDict(
        dict(
            means=(2.0, 4.0, 8.0, 16.0),
            max_steps=5000,
            sgd=("meco", "storm", "plug_in", "nce", "nce_lr1"),
            sgd_steps=1000,
            sgd_seeds=5,
        )
    )
    config.data = ConfigDict(
        dict(
            name="moons",  # what one step sees; a run goes through `sets`
            sets=("moons", "circles", "pinwheel", "digits"),
            data_dir="",  # a TFDS folder; generated and packaged sets when empty
            batch_size=256,
        )
    )
    # Gaussians fitted to the training rows, and the factor of their covariances; of 0
    # Gaussians: N(0, inflate I).
    config.noise = ConfigDict(
        dict(components=0, inflate=4.0, image_components=10, image_inflate=1.2)
    )
    config.model = ConfigDict(
        dict(
            channels=(16, 32),
            widths=(64, 64, 64),
            # Sets on which the network is the log-density less that of the noise.
            relative=("digits", "cifar10"),
        )
    )
    config.loss = ConfigDict(
        dict(
            objective="likelihood",  # or "nce"
            estimator="moving_average",  # of the normaliser; or "storm"
            gamma=0.1,  # share of a batch in it; 1 turns it off (the plug-in)
            max_weight=1e26,  # cap of w / u
        )
    )
    # Learning rate of each method that a run compares, in the plane and on images.
    config.methods = ConfigDict(dict(meco=1e-2, plug_in=1e-2, nce=1e-2))
    config.image_methods = ConfigDict(dict(meco=3e-3, plug_in=1e-3, nce=3e-3))
    config.image_steps = 300  # of `train.num_steps` in the plane
    config.eval = ConfigDict(
        dict(
            held_out=False,  # report on a quarter of the training rows
            grid=200,  # cells a side for the normaliser in the plane
            samples=20_000,  # of the noise for the normaliser of images
            langevin_steps=100,
            langevin_step_size=2e-3,
            generated=360,
        )
    )

    if variant == "gaussian":
        config.data.sets = ()
    elif variant == "plane":
        config.gaussian.means = ()
        config.data.sets = ("moons", "circles", "pinwheel")
    elif variant == "digits":
        config.gaussian.means = ()
        config.data.sets = ("digits",)
    elif variant == "smoke":
        config.gaussian.update(
            means=(2.0,), max_steps=100, sgd=("meco", "nce"), sgd_steps=50, sgd_seeds=2
        )
        config.data.sets = ("moons",)
        config.model.update(widths=(32, 32))
        config.optim.learning_rate = 2e-2
        config.methods = ConfigDict(dict(meco=2e-2, nce=2e-2))
        config.train.update(num_steps=80, log_every=5, save_every=20)
        config.eval.update(grid=60, samples=100, langevin_steps=5, generated=32)
    elif variant == "paper":
        # The paper's text could not be opened: no value here is from it ("not stated").
        config.data.update(
            name="cifar10",
            sets=("cifar10",),
            data_dir="~/tensorflow_datasets",
            batch_size=128,
        )
        config.noise.update(image_components=0, image_inflate=4.0)
        config.model.update(channels=(160, 320, 640), widths=(640,))
        config.optim.update(learning_rate=1e-4, warmup_steps=1000)
        config.image_methods = ConfigDict(dict(meco=1e-4, nce=1e-4))
        config.train.update(num_steps=100_000, log_every=100, save_every=5000)
        config.image_steps = 100_000
    return config


def paper_batch():
    """A row of the recipe's batch: shape and type of each array."""
    return {"x": ((32, 32, 3), "uint8")}


def sweep():
    """The share of a batch in the running estimate, down to none of the past."""
    for gamma in (0.01, 0.1, 0.5, 1.0):
        yield {"loss.gamma": gamma}
