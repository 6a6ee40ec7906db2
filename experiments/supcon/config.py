"""Configs of supervised contrastive learning (Khosla et al. 2020, arXiv:2004.11362)."""

from ml_collections import ConfigDict

# Random crops of clothes: a little milder than on photos.
CROP = dict(scale=(0.15, 1.0), ratio=(3 / 4, 4 / 3), method="linear")


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant: "" (MNIST-5k), "fashion", "smoke" or "paper"."""
    config = ConfigDict()
    config.seed = 0
    config.mapper = "pmap"
    config.devices = 0  # all
    config.data = ConfigDict(
        dict(
            name="mnist5k",
            data_dir="",  # a TFDS folder; the packaged copy when empty
            size=0,  # in memory
            test_split="test",
            batch_size=128,
            augment=dict(
                size=None,  # of the image
                # Part of a digit, or its mirror image, may be another character.
                crop=None,
                affine=dict(degrees=15.0, zoom=(0.85, 1.2), shear=0.2, shift=0.1),
                flip=0.0,
                jitter=dict(
                    p=0.8, brightness=0.4, contrast=0.4, saturation=0.0, hue=0.0
                ),
                gray=0.0,
                blur=None,
                solarize=0.0,
            ),
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
        )
    )
    config.loss = ConfigDict(
        dict(
            objective="supcon",  # "supcon", "simclr" (labels off) or "cross_entropy"
            baseline="cross_entropy",  # trained after it with the same budget
            form="out",
            temperature=0.1,
        )
    )
    config.optim = ConfigDict(
        dict(
            name="adamw",
            learning_rate=1e-2,
            warmup_steps=20,
            weight_decay=1e-4,
            momentum=0.9,
        )
    )
    config.train = ConfigDict(dict(num_steps=1200, log_every=20, save_every=400))
    # Rows of 0: all. held_out > 0 reports on that share of the training rows instead of
    # the test rows: what the values above were chosen on.
    config.eval = ConfigDict(dict(train_limit=0, test_limit=0, k=20, held_out=0.0))

    if variant == "":
        pass
    elif variant == "fashion":
        config.data.name = "fashion"
        config.data.augment.flip = 0.5
        config.data.augment.affine = None
        config.data.augment.crop = ConfigDict(CROP)
        config.data.augment.jitter.update(brightness=0.8, contrast=0.8)
        config.eval.train_limit = 5000
    elif variant == "smoke":
        config.data.name = "digits"
        config.data.batch_size = 64
        config.data.augment.affine.update(degrees=10.0, zoom=(0.9, 1.1), shear=0.1)
        config.data.augment.jitter = None
        config.model.update(stage_sizes=(1,), width=8, stem_stride=1, grid=1)
        config.model.projection = (32, 16)
        config.optim.update(learning_rate=5e-2, warmup_steps=2)
        config.train.update(num_steps=60, log_every=5, save_every=20)
        config.eval.k = 5
    elif variant == "paper":
        config.data.update(
            name="imagenet2012",
            data_dir="~/tensorflow_datasets",
            size=256,
            test_split="validation",
            batch_size=6144,  # section 4.1
        )
        # Released code (SupContrast, ImageNet branch of the paper uses AutoAugment,
        # section 4.4; we keep SimCLR's views, its second best in table 5).
        config.data.augment = ConfigDict(
            dict(
                size=(224, 224),
                crop=dict(scale=(0.2, 1.0), ratio=(3 / 4, 4 / 3), method="cubic"),
                affine=None,
                flip=0.5,
                jitter=dict(
                    p=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1
                ),
                gray=0.2,
                blur=None,
                solarize=0.0,
            )
        )
        config.model.update(
            stage_sizes=(3, 4, 6, 3),  # ResNet-50
            width=64,
            block="bottleneck",
            stem="imagenet",
            stem_stride=2,
            grid=1,
            dtype="bfloat16",  # not stated
            projection=(2048, 128),  # section 3.1
        )
        config.loss.temperature = 0.1  # section 4.1
        config.optim.update(
            name="lars",  # section 4.1
            learning_rate=4.8,  # not stated for LARS; SimCLR's
            warmup_steps=1042,  # 5 epochs; not stated
            weight_decay=1e-4,  # not stated
            momentum=0.9,
        )
        # 700 epochs of 1,281,167 images (section 4.1).
        config.train.update(num_steps=145_900, log_every=100, save_every=1000)
        config.eval.update(train_limit=100_000, test_limit=0, k=200)
    else:
        raise ValueError(
            f'variant: expected "", "fashion", "smoke" or "paper", got {variant!r}'
        )
    return config
