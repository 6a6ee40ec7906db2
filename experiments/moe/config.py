"""Configs of MoE-Sim (Hallee et al. 2024, arXiv:2401.15713)."""

from ml_collections import ConfigDict

from contrastive_jax import training
from contrastive_jax.tasks import text_encoders

VARIANTS = ("", "pilot", "smoke", "paper")
ROUTING = ("enforced", "sentence_switch", "sentence_top_k", "token_top_k")
METHODS = ("specialists", "shared", "shared_tags", "moe", "moe_tags", "top_k")
CHECKS = training.Checks(
    metric="loss",
    change=-0.3,
    paper_rows=2,
    positive=(
        *text_encoders.POSITIVE,
        "count",
        "data.length",
        "data.most",
        "eval.batch_size",
        "eval.pairs",
        "experts.top_k",
        "pilot.clusters",
        "pilot.tokens",
    ),
    not_negative=(
        "start.num_steps",
        "eval.every",
        "loss.balance",
        "loss.information",
        "loss.supervision",
    ),
    ranges={**text_encoders.RANGES, "data.test": "(0, 1)"},
    choices={
        **text_encoders.CHOICES,
        "eval.references": ("tfidf", "minilm"),
        "eval.split": ("test", "validation"),
        "experts.layers": ("all", "middle"),
        "experts.routing": ROUTING,
        "loss.kind": ("argmax", "soft", "mnr"),
        "loss.negatives": ("all", "field"),
        "methods": METHODS,
    },
    free=(*text_encoders.FREE, "data.fields", "data.name", "data.only", "base.path"),
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" is descriptions of packages, "pilot" lone tokens."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=1e-3, warmup_steps=20, weight_decay=0.01),
        train=dict(num_steps=200, log_every=10, save_every=200),
    )
    config.data = ConfigDict(
        dict(
            name="debian",  # "pilot", "synthetic", or a folder of the user's
            fields=("games", "sound", "science", "python", "perl"),
            only="",  # one of the fields: a specialist
            most=100,  # packages that one may name together
            length=24,  # tokens of a text
            test=0.25,  # share of the texts
            batch_size=80,  # pairs, as many of each field
            tags=True,  # whether the first token tells the field
        )
    )
    config.model = text_encoders.small(
        vocab_size=4000, width=64, depth=2, heads=4, mlp_width=256, max_length=64
    )
    config.base = ConfigDict(dict(path=""))  # weights to start from, or the start below
    config.start = ConfigDict(
        dict(
            texts="packages",  # also what the tokenizer is trained on
            count=20_000,  # so many of them
            batch_size=96,
            num_steps=250,
            learning_rate=2e-3,
        )
    )
    config.experts = ConfigDict(
        dict(count=5, routing="enforced", top_k=2, layers="all")
    )
    config.loss = ConfigDict(
        dict(
            kind="argmax",
            temperature=0.05,
            normalize=True,
            negatives="all",  # or those of the "field" alone
            balance=0.05,  # weights of the losses of learned routers
            information=0.01,
            supervision=0.01,
        )
    )
    config.pooler = ConfigDict(dict(head=False))  # `moe.pooled_head` after the mean
    config.pilot = ConfigDict(dict(tokens=200, clusters=10))
    # Of each field alone as many pairs as the others see of it.
    config.specialists = ConfigDict(dict(batch_size=16, num_steps=200))
    config.methods = ("specialists", "shared_tags", "moe_tags", "top_k")
    config.eval = ConfigDict(
        dict(
            split="test",
            pairs=1000,  # of a field, half of them positive
            every=100,
            batch_size=256,
            references=("tfidf", "minilm"),
        )
    )

    if variant == "pilot":
        # The measured pilot of our notes: fields that disagree about the same tokens.
        config.data.update(name="pilot", fields=("a", "b", "c", "d", "e"), length=2)
        config.data.batch_size = 125
        config.model.update(vocab_size=205, width=32, depth=1, heads=1, mlp_width=64)
        config.model.update(max_length=2, dropout=0.0)
        config.start.num_steps = 0
        config.loss.update(kind="mnr", temperature=0.1)
        config.optim.update(learning_rate=2e-3, warmup_steps=0, weight_decay=0.0)
        config.train.update(num_steps=500, save_every=500)
        config.specialists.update(batch_size=128, num_steps=300)
        config.methods = METHODS
        config.eval.update(pairs=600, references=())
    elif variant == "smoke":
        config.data.update(name="synthetic", fields=("a", "b"), length=12)
        config.data.batch_size = 32
        config.model.update(vocab_size=200, width=16, depth=1, heads=2, mlp_width=32)
        config.model.max_length = 12
        config.start.update(texts="synthetic", count=2000, num_steps=0)
        config.experts.count = 2
        config.optim.update(learning_rate=1e-2, warmup_steps=5)
        config.train.update(num_steps=60, log_every=3, save_every=30)
        config.methods = ("shared_tags", "moe_tags")
        config.eval.update(pairs=100, every=30, batch_size=64, references=())
    elif variant == "paper":
        config.data.update(
            name="~/moe_sim",  # FIELD/{train,test}.csv: columns a, b, label
            fields=("copd", "cvd", "cancer", "parasitic", "autoimmune"),  # section 3
            length=512,  # released code, max_length
            # Released code has 16; this is what five fields and eight devices divide.
            batch_size=40,
        )
        # SciBERT-base (preprint); the revision has ModernBERT-base.
        config.base.path = "~/scibert"
        config.model.update(
            vocab_size=31_090,
            width=768,
            depth=12,
            heads=12,
            mlp_width=3072,
            max_length=512,
            dropout=0.05,  # preprint's code; none on attention there
        )
        config.start.num_steps = 0
        config.optim.update(
            learning_rate=1e-4,  # released code; 1e-5 in the preprint
            weight_decay=0.01,  # preprint's code
            warmup_steps=500,  # preprint's code: 100 to 500
        )
        # Released code: up to 100 epochs, stopped early; steps are not stated.
        config.train.update(num_steps=50_000, log_every=100, save_every=2500)
        config.specialists.update(batch_size=20, num_steps=50_000)
        config.loss.update(
            temperature=1.0,  # released code: none
            normalize=False,  # released code
        )
        config.pooler.head = True  # released code, `Pooler`
        config.eval.update(pairs=10_000, every=2500, batch_size=64)
    return config


def paper_batch():
    """A row of the recipe's batch: shape and type of each array."""
    texts = {f"{side}_tokens": ((512,), "int32") for side in "ab"}
    masks = {f"{side}_where": ((512,), "bool") for side in "ab"}
    return texts | masks | {"field": ((), "int32"), "apart": ((40,), "bool")}


def sweep():
    """Learning rates, for the selection on the validation texts."""
    for rate in (5e-4, 1e-3, 2e-3, 4e-3):
        yield {"optim.learning_rate": rate, "eval.split": "validation"}
