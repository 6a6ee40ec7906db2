"""Configs of SimCSE (Gao et al. 2021, arXiv:2104.08821)."""

from ml_collections import ConfigDict

from contrastive_jax import training
from contrastive_jax.tasks import sentence_views

VARIANTS = ("", "supervised", "smoke", "paper")
METHODS = ("simcse", "same_dropout", "pairs", "hard_negatives")
CHECKS = sentence_views.checks(
    change=-0.5,
    paper_rows=1,
    ranges={"loss.hard_weight": "(-inf, inf)", "loss.margin": "[0, 1]"},
    choices={
        "loss.masks": ("other", "same"),
        "loss.negatives": ("batch", "hard"),
        "methods": METHODS,
    },
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" is without labels, "supervised" with pairs."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=3e-4, warmup_steps=5),
        train=dict(num_steps=30, log_every=5, save_every=30),
    )
    config.methods = ("simcse", "same_dropout")
    config.model = sentence_views.model()
    config.data = sentence_views.data(length=16)
    config.loss = ConfigDict(
        dict(
            temperature=0.2,
            masks="other",  # of dropout in the two views; "same" is the ablation
            negatives="batch",  # "hard": and one that is mined for each pair
            margin=0.1,  # least difference of the cosines of positive and negative
            hard_weight=0.0,  # logarithm of the weight of the own hard negative
        )
    )
    config.eval = sentence_views.looking()

    if variant == "supervised":
        config.methods = ("simcse", "pairs", "hard_negatives")
        config.data.update(texts="verses", count=8000)
    elif variant == "smoke":
        sentence_views.use_synthetic(config)
        config.loss.temperature = 0.1
        config.optim.update(learning_rate=3e-3, warmup_steps=3)
        config.train.update(num_steps=30, log_every=2, save_every=15)
        config.methods = ("simcse",)
    elif variant == "paper":
        sentence_views.use_bert(config)  # section 6.1
        # 10^6 sentences of Wikipedia (section 6.1); name of the released file.
        config.data.update(file="~/wiki1m_for_simcse.txt", count=1_000_000, length=32)
        # Appendix A: batch 64, rate 3e-5, one epoch, temperature 0.05; linear decay
        # without warm-up in the released code. The dropout is BERT's.
        config.loss.temperature = 0.05
        config.optim.update(learning_rate=3e-5, warmup_steps=0)
        config.train.update(num_steps=15_625, log_every=125, save_every=1000)
        config.methods = ("simcse",)
        config.eval.every = 125  # released code, on the STS-B development set
    return config


def paper_batch():
    """A row of the recipe's batch: shape and type of each array."""
    return {"tokens": ((1, 32), "int32"), "where": ((1, 32), "bool")}


def sweep():
    """What is compared on held-out pairs."""
    for rate in (1e-4, 3e-4):
        for temperature in (0.05, 0.2):
            yield {"optim.learning_rate": rate, "loss.temperature": temperature}
