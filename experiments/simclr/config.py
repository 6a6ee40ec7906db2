"""Configs of SimCLR (Chen et al. 2020, arXiv:2002.05709)."""

from ml_collections import ConfigDict

from contrastive_jax import training
from contrastive_jax.tasks import images

VARIANTS = ("", "fashion", "smoke", "paper")
CHECKS = images.checks(change=-0.4)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" is MNIST-5k."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=3e-3, warmup_steps=30, weight_decay=1e-4),
        train=dict(num_steps=500),
    )
    config.data = images.data("mnist5k")
    config.model = images.small_resnet(norm="batch")  # "group" with loss.chunk_size
    # chunk_size: images a device encodes at a time (gradient caching); 0: all at once.
    config.loss = dict(temperature=0.2, chunk_size=0)
    config.watch = images.watching()
    config.eval = images.evaluation()

    if variant == "fashion":
        images.use_fashion(config)
        config.loss.temperature = 0.1
        config.train.update(num_steps=600, save_every=200)
    elif variant == "smoke":
        images.use_digits(config)
        config.optim.learning_rate = 2e-2
    elif variant == "paper":
        # The views and the projection of the preset: appendices A and B.
        images.use_imagenet(config, batch_size=4096)  # section 2.2
        config.model.dtype = "bfloat16"  # not stated; the released code on TPU
        config.loss.temperature = 0.1  # released code, 100 to 1,000 epochs
        config.optim.update(
            name="lars",  # section 2.2
            learning_rate=4.8,  # section 2.2: 0.3 * batch / 256
            warmup_steps=3128,  # 10 epochs
            weight_decay=1e-6,  # section 2.2; the momentum of 0.9 is the code's
        )
        # 100 epochs of 1,281,167 images (table 5); 1,000 epochs are 312,800 steps.
        config.train.num_steps = 31_280
    return config


paper_batch = images.imagenet_batch


def sweep():
    """Temperatures around the default (table 5 of the paper)."""
    for temperature in (0.05, 0.1, 0.2, 0.5, 1.0):
        yield {"loss.temperature": temperature}
