"""Configs of MoCo v2 (Chen et al. 2020, arXiv:2003.04297) and v3 (arXiv:2104.02057)."""

from ml_collections import ConfigDict

from contrastive_jax import training
from contrastive_jax.tasks import images

VARIANTS = ("", "v3", "fashion", "fashion_v3", "smoke", "smoke_v3", "paper", "paper_v3")
CHECKS = images.checks(
    change=-0.2,
    smoke=("smoke", "smoke_v3"),
    not_negative=("loss.queue_size",),
    ranges={"loss.decay": "[0, 1]", "loss.decay_final": "[0, 1]"},
)
VIEWS = ("first_view", "second_view")
paper_batch = images.imagenet_batch


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" is v2 on MNIST-5k, "v3" the form without a queue."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=3e-3, warmup_steps=30, weight_decay=1e-4),
        train=dict(num_steps=600, save_every=200),
    )
    config.data = images.data("mnist5k", views=VIEWS)
    config.model = images.small_resnet(
        prediction=(), batch_norm=True, last_batch_norm=False
    )
    config.loss = dict(temperature=0.2, queue_size=2048, decay=0.98, decay_final=0.98)
    config.watch = images.watching()
    config.eval = images.evaluation()

    if variant.startswith("fashion"):
        images.use_fashion(config)
    if variant.startswith("smoke"):
        images.use_digits(config)
        config.loss.update(queue_size=128, decay=0.9, decay_final=0.9)
        config.optim.learning_rate = 2e-2
    if variant.startswith("paper"):  # sections of v1, or of v2 where it says so
        images.use_imagenet(config, batch_size=256)  # 3.3; projection: v2, section 3
        jitter = dict(p=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
        for view in VIEWS:  # v2, section 3 and released code
            config.data[view].update(crop=images.crop(0.2, "linear"), jitter=jitter)
        config.model.batch_norm = False
        config.loss.update(queue_size=65_536, decay=0.999, decay_final=0.999)  # 4, 3.3
        config.optim.update(name="sgd", learning_rate=0.03, warmup_steps=0)  # 3.3
        config.train.update(num_steps=1_000_912, save_every=5000)  # 200 epochs: v2, 3
    if variant == "paper_v3":  # main_moco.py of the released code, for ResNet-50
        config.data.batch_size = 4096
        blur = dict(sigma=(0.1, 2.0), kernel=0.1)
        for view, p, solarize in zip(VIEWS, (1.0, 0.1), (0.0, 0.2), strict=True):
            config.data[view].jitter.saturation = 0.2
            config.data[view].update(blur=dict(p=p, **blur), solarize=solarize)
        config.model.update(last_batch_norm=True, projection=(4096, 256))
        config.loss.update(temperature=1.0, decay=0.99)
        config.optim.update(name="lars", learning_rate=9.6, weight_decay=1e-6)
        # The rate is 0.6 batch / 256; 10 and 100 epochs.
        config.optim.warmup_steps, config.train.num_steps = 3128, 31_280
    if variant.endswith("v3"):
        config.loss.update(queue_size=0, decay_final=1.0)
        config.model.update(batch_norm=True, prediction=config.model.projection)
    return config
