"""Configs of DebCSE (Miao et al. 2023, arXiv:2309.07396)."""

from ml_collections import ConfigDict

from contrastive_jax import training
from contrastive_jax.tasks import sentence_views, text_encoders

VARIANTS = ("", "transformer", "controlled", "smoke", "paper")
METHODS = ("simcse", "debiased", "neighbors", "ipw_positives", "debcse")
KINDS = ("ipw", "semantic", "even")
CHECKS = training.Checks(
    metric="loss",
    change=-0.3,
    paper_rows=2,
    sizes=("data.count=1000", "data.validation=100", "data.test=100"),
    positive=(
        *text_encoders.POSITIVE,
        "clip",
        "count",
        "data.candidates",
        "data.length",
        "data.test",
        "data.validation",
        "eval.every",
        "semantic_temperature",
        "surface_temperature",
    ),
    not_negative=("depth", "start.scale"),
    ranges={
        **text_encoders.RANGES,
        "class_prior": "[0, 1)",
        "semantic_max": "[-1, 1]",
    },
    choices={
        "data.surface": ("edit", "jaccard", "length"),
        "eval.sets": ("lee", "wordsim353", "simlex999", "glosses", "verses"),
        "eval.split": ("test", "validation"),
        "loss.mode": ("sample", "weight"),
        "loss.negatives": (*KINDS, "none"),
        "loss.positives": (*KINDS, "dropout"),
        "methods": (*METHODS, "ipw_weighted"),
        "model.param_dtype": ("float32", "bfloat16", "float16"),
        "model.pooling": text_encoders.CHOICES["model.pooling"],
    },
    free=("data.name", "eval.sts", "model.path", "reference.path"),
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" is WordNet, "controlled" texts of known style.

    "transformer" takes two blocks of a packaged MiniLM in place of the bag.
    """
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=1e-2, warmup_steps=20),
        train=dict(num_steps=400, log_every=20, save_every=200),
    )
    config.data = ConfigDict(
        dict(
            name="wordnet",  # or "controlled", or a file with a text a line
            count=20_000,  # texts to train on
            validation=3000,  # about as many pairs to choose by
            test=6000,  # and to report
            length=24,  # tokens of a text
            candidates=64,  # of each text and role
            surface="jaccard",  # or "edit", "length"
            batch_size=64,
        )
    )
    # A bag of tokens (depth 0): the mean of their vectors, which are learned.
    config.model = text_encoders.small(vocab_size=4000, max_length=24, depth=0)
    # A bag begins with the reference's vectors of tokens, so many times as long; 0, or
    # a reference with a path, is with random ones. A model with a path begins as there.
    config.start = ConfigDict(dict(scale=0.5))
    # A folder with the reference encoder; else the mean of vectors of tokens, which
    # are as wide as those of a bag that begins with them.
    config.reference = ConfigDict(dict(path="", width=128))
    positives = dict(count=1, semantic_temperature=0.05, surface_temperature=0.05)
    negatives = dict(count=1, semantic_temperature=0.2, surface_temperature=0.1)
    config.sampler = ConfigDict(
        dict(
            positives=dict(**positives, clip=1e-3, semantic_max=None),
            negatives=dict(**negatives, clip=1e-3, semantic_max=0.4),
        )
    )
    config.loss = ConfigDict(
        dict(
            positives="ipw",  # "semantic", "even", or "dropout": the text itself
            negatives="ipw",  # or "none"
            mode="sample",  # "weight": all positives count by their probabilities
            temperature=0.05,
            debiased=False,  # debiased InfoNCE, with this share of false negatives
            class_prior=0.01,
        )
    )
    config.methods = METHODS
    config.eval = ConfigDict(dict(split="test", every=100, sets=("lee",), sts=()))

    if variant == "transformer":
        config.model = text_encoders.packaged(path="reranker", layers=2)
        config.data.update(count=10_000, validation=1000, test=2000, length=16)
        config.optim.update(learning_rate=1e-4, warmup_steps=5)
        config.train.update(num_steps=30, log_every=5, save_every=30)
        config.eval.every = 15
    elif variant in ("controlled", "smoke"):
        config.data.update(name="controlled", count=3000, validation=300, test=600)
        config.data.update(length=12, batch_size=128)
        config.model.update(vocab_size=601, width=32)
        config.reference.width = 32
        config.start.scale = 0.0
        # As much as a constant rate of 3e-3.
        config.optim.update(learning_rate=6e-3, warmup_steps=0)
        config.train.num_steps = 600
        config.eval.sets = ()
        config.methods = (*METHODS, "ipw_weighted")
    if variant == "smoke":
        config.data.update(count=600, validation=60, test=80, candidates=16)
        config.data.batch_size = 64
        config.model.width = config.reference.width = 16
        config.optim.learning_rate = 2e-2
        config.train.update(num_steps=60, log_every=3, save_every=30)
        config.eval.every = 30
        config.methods = ("simcse", "debcse")
    elif variant == "paper":
        # BERT-base on a million sentences of Wikipedia, as SimCSE. Of the paper only
        # the abstract was at hand: what is marked (r) is a reconstruction.
        config.data.update(
            name="~/wiki1m_for_simcse.txt",  # SimCSE's data
            length=32,  # SimCSE, "max_seq_length"
            candidates=64,  # (r)
            batch_size=64,  # (r) 64 to 128
        )
        sentence_views.use_bert(config)
        config.reference.path = "~/unsup-simcse-bert-base-uncased"  # (r)
        config.optim.update(learning_rate=3e-5, warmup_steps=0)  # (r) 2e-5 to 3e-5
        # (r) 1 to 3 epochs of a million sentences.
        config.train.update(num_steps=15_625, log_every=125, save_every=2000)
        config.sampler.positives.update(
            semantic_temperature=0.05, surface_temperature=0.1
        )
        config.sampler.negatives.update(
            semantic_temperature=0.05, surface_temperature=0.1, semantic_max=0.7
        )
        config.eval.sts = tuple(
            f"~/sts/{name}.tsv"
            for name in ("sts12", "sts13", "sts14", "sts15", "sts16", "stsb", "sickr")
        )
    return config


def paper_batch():
    """A row of the recipe's batch: shape and type of each array."""
    own = {"tokens": ((32,), "int32"), "where": ((32,), "bool"), "row": ((), "int32")}
    for role in ("positives", "negatives"):
        own |= {
            f"{role}_row": ((64,), "int32"),
            f"{role}_semantic": ((64,), "float32"),
            f"{role}_surface": ((64,), "float32"),
            f"{role}_tokens": ((64, 32), "int32"),
            f"{role}_where": ((64, 32), "bool"),
        }
    return own


def sweep():
    """Temperatures of the two similarities."""
    for semantic in (0.05, 0.1, 0.2):
        for surface in (0.05, 0.1, 0.3):
            yield {
                "sampler.positives.semantic_temperature": semantic,
                "sampler.positives.surface_temperature": surface,
            }
