"""Configs of SimCSE (Gao et al. 2021, arXiv:2104.08821)."""

from ml_collections import ConfigDict

from contrastive_jax import training
from contrastive_jax.tasks import sentences, text_encoders

VARIANTS = ("", "supervised", "smoke", "paper")
METHODS = ("simcse", "same_dropout", "pairs", "hard_negatives")
SETS = (*sentences.SCORED, *sentences.MADE_UP, *sentences.PAIRED)
CHECKS = training.Checks(
    metric="loss",
    change=-0.5,
    paper_rows=1,
    positive=(
        *text_encoders.POSITIVE,
        "data.count",
        "data.length",
        "eval.count",
        "eval.every",
        "eval.pairs",
        "loss.temperature",
    ),
    ranges={
        **text_encoders.RANGES,
        "data.margin": "[0, 1]",
        "loss.hard_weight": "(-inf, inf)",
    },
    choices={
        **text_encoders.CHOICES,
        "data.kind": ("sentences", "pairs", "hard"),
        "data.texts": (*text_encoders.TEXTS, "verses"),
        "eval.sets": SETS,
        "loss.masks": ("other", "same"),
        "methods": METHODS,
    },
    free=(*text_encoders.FREE, "data.file"),
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" is without labels, "supervised" with pairs."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=1e-3, warmup_steps=20),
        train=dict(num_steps=200, log_every=10, save_every=200),
    )
    config.methods = ("simcse", "same_dropout")
    config.model = text_encoders.small()
    config.start = text_encoders.starting()
    config.data = ConfigDict(
        dict(
            kind="sentences",  # "pairs", or "hard" for pairs with a negative each
            texts="brown",  # a key of text_encoders.TEXTS, or "verses"
            file="",  # in their place: a text, or texts separated by tabs, a line
            count=20_000,  # of the texts or pairs
            length=32,  # tokens; what is longer is cut
            margin=0.1,  # least difference of the cosines of positive and negative
            batch_size=64,
        )
    )
    config.loss = ConfigDict(
        dict(
            temperature=0.05,
            masks="other",  # of dropout in the two views; "same" is the ablation
            hard_weight=0.0,  # logarithm of the weight of the own hard negative
        )
    )
    config.eval = ConfigDict(
        dict(
            sets=("lee", "wordsim353", "simlex999", "glosses", "verses"),
            count=1000,  # pairs to be retrieved
            pairs=128,  # held-out pairs, of which geometry and choices are made
            every=20,  # steps between looks at them
        )
    )

    if variant == "supervised":
        config.methods = ("simcse", "pairs", "hard_negatives")
        config.data.update(texts="verses", count=8000)
    elif variant == "smoke":
        config.model.update(vocab_size=400, width=32, depth=1, mlp_width=64)
        config.model.max_length = 16
        config.start.update(texts="synthetic", length=12, num_steps=15)
        config.data.update(texts="synthetic", count=512, length=12, batch_size=32)
        config.optim.update(learning_rate=3e-3, warmup_steps=3)
        config.train.update(num_steps=30, log_every=2, save_every=15)
        config.methods = ("simcse",)
        config.eval.update(sets=("synthetic",), pairs=32, every=15)
    elif variant == "paper":
        # BERT-base, [CLS] (section 6.1), from a folder; its sizes are for
        # tests that build it by shapes.
        config.model = text_encoders.small(
            path="~/bert-base-uncased",
            vocab_size=30_522,
            width=768,
            depth=12,
            heads=12,
            mlp_width=3072,
            max_length=512,
            pooling="cls",
        )
        # 10^6 sentences of Wikipedia (section 6.1; the file of the released code).
        config.data.update(
            file="~/wiki1m_for_simcse.txt", count=1_000_000, batch_size=64
        )
        # Appendix A: batch 64, 3e-5, one epoch, length 32; linear decay and no warm-up
        # in the released code.
        config.optim.update(learning_rate=3e-5, warmup_steps=0)
        config.train.update(num_steps=15_625, log_every=125, save_every=1000)
        config.methods = ("simcse",)
        config.eval.every = 125  # released code; by STS-B there
    return config


def paper_batch():
    """A row of the recipe's batch: shape and type of each array."""
    return {"tokens": ((1, 32), "int32"), "where": ((1, 32), "bool")}


def sweep():
    """Learning rates and temperatures, to be compared on held-out pairs."""
    for rate in (3e-4, 1e-3, 3e-3):
        for temperature in (0.05, 0.1):
            yield {"optim.learning_rate": rate, "loss.temperature": temperature}
