"""Configs of supervised contrastive learning (Khosla et al. 2020, arXiv:2004.11362)."""

from ml_collections import ConfigDict

from contrastive_jax import training
from contrastive_jax.tasks import images

VARIANTS = ("", "fashion", "smoke", "paper")
OBJECTIVES = ("supcon", "simclr", "cross_entropy")
CHECKS = images.checks(
    change=-0.4,
    choices={
        "loss.objective": OBJECTIVES,
        "loss.baseline": ("", *OBJECTIVES),
        "loss.form": ("out", "in"),
    },
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" is MNIST-5k."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=1e-2, warmup_steps=20, weight_decay=1e-4),
        train=dict(num_steps=1200, save_every=400),
    )
    config.data = images.data("mnist5k")
    config.model = images.small_resnet()
    config.loss = dict(
        objective="supcon",  # "supcon", "simclr" (labels off) or "cross_entropy"
        baseline="cross_entropy",  # trained after it with the same budget; "" for none
        form="out",
        temperature=0.1,
    )
    config.watch = images.watching()
    config.eval = images.evaluation()

    if variant == "fashion":
        images.use_fashion(config)
    elif variant == "smoke":
        images.use_digits(config)
        config.optim.learning_rate = 5e-2
        config.train.num_steps = 60
    elif variant == "paper":
        images.use_imagenet(config, batch_size=6144)  # section 4.1
        # The paper uses AutoAugment (section 4.4); these are SimCLR's views, its second
        # best (table 5), with the strength of the released code.
        jitter = dict(p=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
        config.data.augment.jitter, config.data.augment.blur = jitter, None
        config.data.augment.crop.scale = (0.2, 1.0)
        # The projection of the preset is section 3.1's; the type is not stated.
        config.model.dtype = "bfloat16"
        # LARS and a temperature of 0.1 (the default) are section 4.1's; the rate is
        # SimCLR's, warm-up (5 epochs) and decay are ours: none of them is stated.
        config.optim.update(
            name="lars", learning_rate=4.8, warmup_steps=1042, weight_decay=1e-4
        )
        # 700 epochs of 1,281,167 images (section 4.1).
        config.train.num_steps = 145_900
    return config


paper_batch = images.imagenet_batch
