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
        "loss.scale",
        "rates",
        "scale_of_components",
    ),
    not_negative=("eval.every", "eval.watch"),
    ranges=text_encoders.RANGES,
    choices={
        **text_encoders.CHOICES,
        "data.name": ("wordnet", "synthetic"),
        "eval.split": ("test", "validation"),
        "loss.activation": ("gelu", "tanh"),
        "loss.pooling": ("cls", "mean"),
        "methods": tuple(METHODS),
        "stage": ("entries", "words"),
    },
    free=("model.path", "eval.sets"),
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" learns 8,000 entries of WordNet from scratch."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=3e-4, eps=1e-6),
        train=dict(num_steps=300, log_every=10, save_every=300),
    )
    config.stage = "entries"  # or "words" (DefSent); `run` does both
    config.data = ConfigDict(
        dict(
            name="wordnet",
            entries=8000,
            least=2,  # definitions of an entry, as many at least
            most=8,
            held_out=1500,  # entries for validation, and as many for the test
            length=24,  # tokens
            batch_size=64,
        )
    )
    config.model = text_encoders.small()
    config.start = text_encoders.starting()
    config.loss = ConfigDict(
        dict(
            activation="gelu",  # of the layer on a definition's vector
            pooling="mean",  # of the entries' definitions: AMP; "cls" is AC
            isotropic=False,  # whether entries become independent components
            iterations=100,  # of FastICA at most
            scale=1.0,  # of the entries: an inverse temperature
            restart=True,  # every stage from the start; False goes on
            clip=1.0,  # largest norm of the gradients
        )
    )
    config.methods = tuple(METHODS)
    config.eval = ConfigDict(
        dict(
            split="test",
            pairs=3000,  # of definitions of things, with their distance
            sets=("lee", "simlex999"),
            every=100,  # steps between looks at `watch` entries of validation
            watch=300,
        )
    )

    if variant == "smoke":
        config.data.update(name="synthetic", entries=60, held_out=16, length=12)
        config.data.batch_size = 32
        config.model.update(vocab_size=200, width=32, depth=1, heads=2, mlp_width=64)
        config.start.update(texts="synthetic", count=480, length=12, num_steps=20)
        config.optim.learning_rate = 1e-2
        config.train.update(num_steps=45, log_every=3, save_every=45)
        config.loss.iterations = 10
        config.methods = ("defsent", "isotropic")
        config.eval.update(pairs=50, sets=(), every=20, watch=10)
    elif variant == "paper":
        pass
    return config
