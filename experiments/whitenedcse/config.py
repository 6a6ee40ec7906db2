"""Configs of WhitenedCSE (Zhuo et al. 2023, arXiv:2305.17746)."""

from ml_collections import ConfigDict

from contrastive_jax import training
from contrastive_jax.tasks import sentence_views

VARIANTS = ("", "smoke", "paper")
METHODS = ("simcse", "three_views", "whitenedcse", "one_group")
CHECKS = sentence_views.checks(
    change=-0.5,
    paper_rows=8,
    positive=("loss.groups",),
    ranges={"loss.views": "[2, inf)", "loss.eps": "[0, inf)"},
    choices={"methods": METHODS},
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" is the Brown corpus and two blocks of an encoder."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=3e-4, warmup_steps=5),
        train=dict(num_steps=30, log_every=5, save_every=30),
    )
    config.methods = METHODS[:3]  # one group is of more channels than rows
    config.model = sentence_views.model()
    config.data = sentence_views.data(length=16)
    config.loss = ConfigDict(
        dict(
            temperature=0.2,
            views=3,
            whiten=True,  # False is the ablation: several views alone
            groups=48,  # of the channels; 1 whitens all of them together
            eps=1e-5,  # added to the variances
            stop_gradient=True,  # at the whitening matrix, as in the released code
        )
    )
    config.eval = sentence_views.looking()

    if variant == "smoke":
        sentence_views.use_synthetic(config)
        config.loss.groups = 4
        config.loss.temperature = 0.1
        config.optim.update(learning_rate=3e-3, warmup_steps=3)
        config.train.update(num_steps=30, log_every=2, save_every=15)
        config.methods = ("whitenedcse",)
    elif variant == "paper":
        sentence_views.use_bert(config)  # BERT-base; [CLS] in the released code
        # 10^6 sentences of Wikipedia, those of SimCSE (script of the released code).
        config.data.update(
            file="~/wiki1m_for_simcse.txt",
            count=1_000_000,
            length=32,
            batch_size=256,  # script: 128 on each of two devices
        )
        # Script: 1e-5, one epoch, temperature 0.05; linear decay, no warm-up.
        config.loss.temperature = 0.05
        config.optim.update(learning_rate=1e-5, warmup_steps=0)
        config.train.update(num_steps=3906, log_every=125, save_every=1000)
        config.loss.groups = 128  # released code, 6 channels each
        config.loss.eps = 0.0  # released code: none
        config.methods = ("whitenedcse",)
        config.eval.every = 125  # script, on the STS-B development set
    return config


def paper_batch():
    """A row of the recipe's batch: shape and type of each array."""
    return {"tokens": ((1, 32), "int32"), "where": ((1, 32), "bool")}


def sweep():
    """Numbers of groups, from all channels together to pairs of channels."""
    for groups in (1, 16, 48, 128):
        yield {"loss.groups": groups}
