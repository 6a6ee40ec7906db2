"""Configs of MoCo v2 (Chen et al. 2020, arXiv:2003.04297) and v3 (arXiv:2104.02057)."""

from ml_collections import ConfigDict

CROP = dict(scale=(0.15, 1.0), ratio=(3 / 4, 4 / 3), method="linear")
VARIANTS = ("", "v3", "fashion", "fashion_v3", "smoke", "smoke_v3", "paper", "paper_v3")


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" is v2 on MNIST-5k, "v3" the form without a queue."""
    if variant not in VARIANTS:
        raise ValueError(f"variant: expected one of {VARIANTS}, got {variant!r}")
    config = ConfigDict()
    config.seed = 0
    config.mapper = "pmap"
    config.devices = 0  # all
    view = dict(
        size=None,  # of the image
        # Part of a digit, or its mirror image, may be another character.
        crop=None,
        affine=dict(degrees=15.0, zoom=(0.85, 1.2), shear=0.2, shift=0.1),
        flip=0.0,
        jitter=dict(p=0.8, brightness=0.4, contrast=0.4, saturation=0.0, hue=0.0),
        gray=0.0,
        blur=None,
        solarize=0.0,
    )
    config.data = ConfigDict(
        dict(
            name="mnist5k",
            data_dir="",  # a TFDS folder; the packaged copy when empty
            size=0,  # in memory
            test_split="test",
            batch_size=128,
            first_view=view,
            second_view=view,
        )
    )
    config.model = ConfigDict(
        dict(
            stage_sizes=(0, 1, 1),  # no block at the stem's costly resolution
            width=16,
            block="basic",
            stem="cifar",
            stem_stride=2,
            grid=4,  # features keep where they are: the pictures are all placed alike
            dtype="float32",
            projection=(128, 64),
            prediction=(),  # v3 has a prediction head on the queries
            batch_norm=True,  # between the layers of the heads
            last_batch_norm=False,  # after the projection, without scale and bias
        )
    )
    config.loss = ConfigDict(
        dict(temperature=0.2, queue_size=2048, decay=0.98, decay_final=0.98)
    )
    config.optim = ConfigDict(
        dict(
            name="adamw",
            learning_rate=3e-3,
            warmup_steps=30,
            weight_decay=1e-4,
            momentum=0.9,
        )
    )
    config.train = ConfigDict(dict(num_steps=600, log_every=20, save_every=200))
    # Rows of 0: all. held_out > 0 reports on that share of the training rows instead of
    # the test rows: what the values above were chosen on.
    config.eval = ConfigDict(dict(train_limit=0, test_limit=0, k=20, held_out=0.0))

    if variant.startswith("fashion"):
        config.data.name = "fashion"
        for view in (config.data.first_view, config.data.second_view):
            view.flip, view.affine, view.crop = 0.5, None, ConfigDict(CROP)
            view.jitter.update(brightness=0.8, contrast=0.8)
        config.eval.train_limit = 5000
    if variant.startswith("smoke"):
        config.data.name = "digits"
        config.data.batch_size = 64
        for view in (config.data.first_view, config.data.second_view):
            view.affine.update(degrees=10.0, zoom=(0.9, 1.1), shear=0.1)
            view.jitter = None
        config.model.update(stage_sizes=(1,), width=8, stem_stride=1, grid=1)
        config.model.projection = (32, 16)
        config.loss.update(queue_size=128, decay=0.9, decay_final=0.9)
        config.optim.update(learning_rate=2e-2, warmup_steps=2)
        config.train.update(num_steps=40, log_every=5, save_every=20)
        config.eval.k = 5
    if variant.startswith("paper"):
        config.update(paper(config))
    if variant.endswith("v3"):
        config.loss.queue_size = 0
        config.loss.decay_final = 1.0
        config.model.batch_norm = True
        config.model.prediction = config.model.projection
    if variant == "paper_v3":
        config.update(paper_v3(config))
    return config


def paper(config: ConfigDict) -> ConfigDict:
    """The published recipe of v2."""
    config.data.update(
        name="imagenet2012",
        data_dir="~/tensorflow_datasets",
        size=256,
        test_split="validation",
        batch_size=256,  # v1, section 3.3
    )
    view = dict(
        size=(224, 224),
        # v2, section 3: v1's views plus blur (released code: --aug-plus).
        crop=dict(scale=(0.2, 1.0), ratio=(3 / 4, 4 / 3), method="linear"),
        affine=None,
        flip=0.5,
        jitter=dict(p=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
        gray=0.2,
        blur=dict(p=0.5, sigma=(0.1, 2.0), kernel=0.1),
        solarize=0.0,
    )
    config.data.first_view = ConfigDict(view)
    config.data.second_view = ConfigDict(view)
    config.model.update(
        stage_sizes=(3, 4, 6, 3),  # ResNet-50
        width=64,
        block="bottleneck",
        stem="imagenet",
        stem_stride=2,
        grid=1,
        projection=(2048, 128),  # v2, section 3
        batch_norm=False,
    )
    config.loss.update(
        temperature=0.2,  # v2, table 1
        queue_size=65_536,  # v1, section 4
        decay=0.999,  # v1, section 3.3
        decay_final=0.999,
    )
    config.optim.update(
        name="sgd",
        learning_rate=0.03,  # v1, section 3.3
        warmup_steps=0,
        weight_decay=1e-4,
        momentum=0.9,
    )
    # 200 epochs of 1,281,167 images, cosine (v2, section 3).
    config.train.update(num_steps=1_000_912, log_every=100, save_every=5000)
    config.eval.update(train_limit=100_000, test_limit=0, k=200)
    return config


def paper_v3(config: ConfigDict) -> ConfigDict:
    """The published ResNet-50 recipe of v3 (released code: main_moco.py defaults)."""
    config.data.batch_size = 4096
    byol = dict(p=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
    blur = dict(sigma=(0.1, 2.0), kernel=0.1)
    config.data.first_view.update(jitter=byol, blur=dict(p=1.0, **blur))
    config.data.second_view.update(jitter=byol, blur=dict(p=0.1, **blur), solarize=0.2)
    config.model.update(projection=(4096, 256), last_batch_norm=True)
    config.model.prediction = (4096, 256)
    config.loss.update(temperature=1.0, decay=0.99)
    config.optim.update(
        name="lars", learning_rate=9.6, warmup_steps=3128, weight_decay=1e-6
    )
    config.train.num_steps = 31_280  # 100 epochs: lr 0.6 * batch / 256
    return config
