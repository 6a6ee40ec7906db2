"""Configs of cDPO (Lin et al. 2024, arXiv:2411.19943)."""

from ml_collections import ConfigDict

from contrastive_jax import training

VARIANTS = ("", "smoke", "paper")
CHECKS = training.Checks(
    metric="loss",
    change=-0.3,
    stages=("predict", "prefer"),
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" is chains of digits."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=3e-3, warmup_steps=10),
        train=dict(num_steps=330, log_every=10, save_every=500),
    )
    config.stage = "predict"
    config.data = ConfigDict(
        dict(
            operations=4,
            train=3000,
            questions=2000,
            samples=8,
            test=1000,
            batch_size=64,
        )
    )
    config.model = ConfigDict(
        dict(
            vocab_size=16,
            width=48,
            depth=2,
            heads=4,
            kv_heads=4,
            mlp_width=128,
            max_length=32,
            rotary_base=10_000.0,
            tied=True,
            dtype="float32",
        )
    )
    config.lora = ConfigDict(dict(rank=0, alpha=16.0, targets="mlp", blocks=0))
    config.loss = ConfigDict(
        dict(
            beta=0.1,
            label_smoothing=0.0,
            form="sequence",
            weighted=True,
            contrast=1.0,
            chunk=4096,
        )
    )
    config.contrast = ConfigDict(dict(num_steps=200, learning_rate=1e-3))
    config.tune = ConfigDict(
        dict(num_steps=(100, 300, 300), learning_rates=(3e-4, 3e-4, 1e-3))
    )
    if variant == "smoke":
        pass
    return config
