"""Configs of DefSent+ (Liu 2024, arXiv:2405.16153) and DefSent (2021)."""

from ml_collections import ConfigDict

from contrastive_jax import training
from contrastive_jax.tasks import text_encoders

VARIANTS = ("", "smoke", "paper")
# Stages of training that each method goes through, see `experiment.STAGES`.
METHODS = {
    "defsent": ("words",),
    "one stage": ("entries",),
    "two stages": ("entries", "again"),
    "isotropic": ("entries", "components"),
    "continued": ("entries", "continued"),
    "three stages": ("entries", "again", "components"),
}
CHECKS = training.Checks(
    metric="loss",
    change=-0.5,
    stages=("entries", "words"),
    paper_rows=1,
    positive=(
        *text_encoders.POSITIVE,
        "data.entries",
        "data.held_out",
        "data.least",
        "data.length",
        "data.most",
        "eval.pairs",
        "loss.clip",
        "loss.iterations",
        "loss.component_scale",
    ),
    not_negative=("eval.every", "eval.watch", "loss.scale"),
    ranges=text_encoders.RANGES,
    choices={
        **text_encoders.CHOICES,
        "eval.split": ("test", "validation"),
        "loss.activation": ("gelu", "tanh"),
        "param_dtype": ("float32", "bfloat16", "float16"),
        "loss.entries": ("cls", "mean"),
        "loss.layer": ("identity", "head", "pooler"),
        "loss.pooling": ("cls", "mean"),
        "methods": tuple(METHODS),
        "stage": ("entries", "words"),
    },
    free=("data.name", "eval.sets", "model.path"),
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" learns 4,000 entries of WordNet."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=1e-3, warmup_steps=10, eps=1e-6),
        train=dict(num_steps=60, log_every=5, save_every=60),
    )
    config.stage = "entries"  # or "words" (DefSent); `run` does both
    config.data = ConfigDict(
        dict(
            name="wordnet",
            entries=4000,
            least=2,  # definitions of an entry, as many at least
            most=8,
            held_out=1500,  # entries for validation, and as many for the test
            length=16,  # tokens
            batch_size=64,
        )
    )
    config.model = text_encoders.packaged(path="reranker", layers=2)
    config.start = text_encoders.starting()
    config.loss = ConfigDict(
        dict(
            pooling="mean",  # of the definitions that are learned
            layer="identity",  # the start of the layer on their vectors
            activation="tanh",  # of that layer
            entries="mean",  # pooling of the entries' definitions: AMP; "cls" is AC
            isotropic=False,  # whether entries become independent components
            iterations=50,  # of FastICA at most
            # Deviation of the columns of entries or tokens, an inverse temperature; 0
            # leaves them as they are.
            scale=0.15,
            component_scale=0.15,  # the same of components
            restart=True,  # every stage from the start; False goes on
            clip=1.0,  # largest norm of the gradients
        )
    )
    config.methods = ("defsent", "one stage", "two stages", "isotropic", "continued")
    config.eval = ConfigDict(
        dict(
            split="test",
            pairs=1000,  # of definitions of things, with their distance
            sets=("lee",),
            every=20,  # steps between looks at `watch` entries of validation
            watch=200,
        )
    )

    if variant == "smoke":
        config.data.update(name="synthetic", entries=60, held_out=16, length=12)
        config.data.batch_size = 32
        config.model = text_encoders.small(
            vocab_size=200, width=32, depth=1, heads=2, mlp_width=64, dropout=0.0
        )
        config.start.update(texts="synthetic", count=480, length=12, num_steps=0)
        config.optim.update(learning_rate=1e-2, warmup_steps=5)
        config.train.update(num_steps=45, log_every=3, save_every=45)
        config.loss.iterations = 10
        config.methods = ("isotropic",)
        config.eval.update(pairs=50, sets=(), every=45, watch=0)
    elif variant == "paper":
        # Oxford's dictionary and WordNet (section 4), from the user's file: a word, a
        # tab and a definition a line.
        config.data.update(
            name="~/oxford_wordnet.tsv",
            entries=100_000,  # all; how many is not stated
            least=1,
            most=1000,
            held_out=1,
            length=150,  # released code
            batch_size=32,  # released code
        )
        # Raw BERT, its pooler, and its first token's state (section 4, released code).
        config.model = text_encoders.packaged(path="~/bert-base-uncased")
        config.loss.update(layer="pooler", pooling="cls", entries="cls")
        config.loss.update(clip=1.0, scale=0.0, component_scale=100.0)  # released code
        config.loss.iterations = 1000  # released code
        # AdamW; linear decay there (released code).
        config.optim.update(
            learning_rate=2e-5,  # that of SynCSE's first stage; not stated for BERT
            warmup_steps=0,  # released code
            weight_decay=0.01,  # released code: the default
        )
        # One epoch (released code), here of 320,000 definitions: not stated.
        config.train.update(num_steps=10_000, log_every=50, save_every=1000)
        config.methods = ("three stages",)  # section 4: components at the third
        # STS is the user's: `tasks.sentences.evaluate(encode, files=...)`.
        config.eval.update(pairs=1, sets=(), every=1000, watch=1)
    return config


def paper_batch():
    """A row of the recipe's batch: shape and type of each array."""
    return {
        "tokens": ((150,), "int32"),
        "where": ((150,), "bool"),
        "labels": ((), "int32"),
    }


def sweep():
    """The learning rates that were tried, each for DefSent and for one stage."""
    for method in ("defsent", "one stage"):
        for rate in (1e-4, 3e-4, 1e-3, 3e-3):
            yield {
                "methods": (method,),
                "optim.learning_rate": rate,
                "eval.split": "validation",
            }
