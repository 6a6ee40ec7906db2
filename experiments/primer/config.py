"""Configs of the primer's comparison (Rethmeier and Augenstein 2023)."""

from ml_collections import ConfigDict

from contrastive_jax import training

VARIANTS = ("", "nce", "smoke", "paper")
OBJECTIVES = (
    "binary",
    "cross_entropy",
    "distillation",
    "input_label",
    "nt_xent",
    "proxy_anchor",
    "ranking",
    "supcon",
    "triplet",
    "vicreg",
)
# Of each method and reference: family, what it sees besides the texts, function, and
# what differs from the config; None where nothing is trained. The documentation's table
# has these rows. The shift of binary NCE was chosen for 50 negatives and is log(50 / K)
# less with fewer.
FAMILIES = {
    "cross_entropy": (
        "classifier",
        "labels",
        "losses.info_nce",
        {"loss.objective": "cross_entropy", "loss.label_text": False},
    ),
    "ranking_50": (
        "input-label, ranking NCE, K = 50",
        "label texts",
        "ebm.ranking_nce",
        {"loss.negatives": 50},
    ),
    "ranking_10": (
        "the same, K = 10",
        "label texts",
        "ebm.ranking_nce",
        {"loss.negatives": 10},
    ),
    "ranking_1": (
        "the same, K = 1",
        "label texts",
        "ebm.ranking_nce",
        {"loss.negatives": 1},
    ),
    "ranking_free": (
        "the same, K = 50, free vectors",
        "labels",
        "ebm.ranking_nce",
        {"loss.label_text": False},
    ),
    "binary_50": (
        "input-label, binary NCE, K = 50",
        "label texts",
        "ebm.binary_nce",
        {"loss.objective": "binary", "loss.negatives": 50, "loss.shift": 7.0},
    ),
    "binary_10": (
        "the same, K = 10",
        "label texts",
        "ebm.binary_nce",
        {"loss.objective": "binary", "loss.negatives": 10, "loss.shift": 5.4},
    ),
    "binary_1": (
        "the same, K = 1",
        "label texts",
        "ebm.binary_nce",
        {"loss.objective": "binary", "loss.negatives": 1, "loss.shift": 3.1},
    ),
    "input_label": (
        "input-label, all labels",
        "label texts",
        "ebm.input_label_matching",
        {"loss.objective": "input_label", "loss.shift": 7.0},
    ),
    "proxy_anchor": (
        "input-label, proxies",
        "label texts",
        "losses.proxy_anchor",
        {"loss.objective": "proxy_anchor", "loss.temperature": 0.03},
    ),
    "input_input_labels": (
        "input-input, texts of a label",
        "labels",
        "losses.supervised_contrastive",
        {"loss.objective": "supcon", "loss.temperature": 0.2},
    ),
    "triplet": (
        "triplets of texts",
        "labels",
        "losses.triplet_batch_hard",
        {"loss.objective": "triplet", "loss.margin": 0.8},
    ),
    "input_input": (
        "input-input, two views",
        "nothing",
        "losses.nt_xent",
        {"loss.objective": "nt_xent", "loss.temperature": 0.2},
    ),
    "non_contrastive": (
        "two views, no negatives",
        "nothing",
        "losses.vicreg",
        {"loss.objective": "vicreg", "loss.scale": 0.3},
    ),
    "distillation": (
        "distillation of ranking NCE",
        "teacher's scores",
        "losses.distillation_kl",
        {"loss.objective": "distillation"},
    ),
    "untrained": ("encoder before training", "nothing", "", None),
    "words": ("weighted words, no encoder", "nothing", "", None),
    "chance": ("chance", "", "", None),
}
COMPARED = tuple(name for name, row in FAMILIES.items() if row[3] is not None)
# Those of variant nce.
NCE = {
    "nce_ranking": {},
    "nce_binary": {"loss.objective": "binary"},
    "nce_binary_normaliser": {"loss.objective": "binary", "loss.normaliser": True},
}
METHODS = {name: FAMILIES[name][3] for name in COMPARED} | NCE
CHECKS = training.Checks(
    metric="loss",
    change=-0.25,
    positive=(
        "contexts",
        "draws",
        "every",
        "hidden",
        "min_texts",
        "outcomes",
        "rank",
        "shots",
        "vocab_size",
        "data.batch_size",
        "data.length",
        "loss.negatives",
        "loss.scale",
    ),
    not_negative=("loss.margin", "loss.shift"),
    ranges={"data.unseen": "(0, 1)", "data.dropped": "[0, 1)"},
    choices={
        "loss.objective": OBJECTIVES,
        "methods": tuple(METHODS),
        "eval.split": ("validation", "test"),
    },
    free=("data.name",),
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" labels the nouns of WordNet by what they are."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=0.03, warmup_steps=30, weight_decay=0.1),
        train=dict(num_steps=600, log_every=50, save_every=300),
    )
    config.methods = COMPARED
    config.data = ConfigDict(
        dict(
            name="wordnet",  # "synthetic", or a folder of own files
            batch_size=128,
            names=True,  # False: texts without the words of their label's name
            min_texts=20,  # labels with fewer are left out
            unseen=0.1,  # share of labels for the test without training texts
            vocab_size=16_000,
            length=24,  # words of a text
            dropped=0.2,  # share of the words that a view lacks
        )
    )
    config.model = ConfigDict(dict(width=128, hidden=256))
    config.loss = ConfigDict(
        dict(
            objective="ranking",
            label_text=True,  # False: free vectors stand for the labels' texts
            negatives=50,  # K
            # Negatives by the frequency of their labels, and scores less the
            # logarithm of it; else any other label.
            corrected=False,
            temperature=0.1,
            shift=0.0,  # of scores, in binary NCE and with all labels
            margin=0.1,
            scale=1.0,  # of the embeddings before VICReg
        )
    )
    # Every so many steps the curves of the report are measured, on validation texts.
    config.watch = ConfigDict(dict(every=200))
    config.eval = ConfigDict(dict(split="test", shots=5, draws=10))

    if variant == "nce":
        config.methods = tuple(NCE)
        config.data = ConfigDict(
            dict(name="categorical", batch_size=2048, contexts=8, outcomes=30, rank=4)
        )
        config.loss = ConfigDict(
            dict(
                objective="ranking",
                negatives=10,
                corrected=True,
                shift=0.0,
                normaliser=False,  # a free constant for each context, else one
            )
        )
        for section in ("model", "watch", "eval"):
            delattr(config, section)
        config.optim.update(learning_rate=0.03, warmup_steps=0, weight_decay=0.0)
        config.train.update(num_steps=2000, log_every=100, save_every=2000)
    elif variant == "smoke":
        config.methods = ("ranking_10", "input_input")
        config.data.update(name="synthetic", batch_size=32, min_texts=10, length=10)
        config.data.vocab_size = 200
        config.model.update(width=16, hidden=16)
        config.optim.update(learning_rate=2e-2, warmup_steps=5)
        config.train.update(num_steps=60, log_every=3, save_every=30)
        config.watch.every = 30
        config.eval.update(shots=2, draws=2)
    elif variant == "paper":
        # A survey: it trains nothing, and no value is stated. Those of the comparison
        # that we think of at full size: every kind of noun with a text for training,
        # validation and test, more negatives, ten epochs.
        config.data.update(batch_size=1024, min_texts=5, vocab_size=50_000, length=48)
        config.model.update(width=512, hidden=1024)
        config.loss.negatives = 127
        config.optim.update(learning_rate=1e-3, warmup_steps=100)
        config.train.update(num_steps=5000, log_every=100, save_every=1000)
        config.watch.every = 1000
    return config


def paper_batch():
    """A row of the recipe's batch: shape and type of each array."""
    return {"tokens": ((48,), "int32"), "label": ((), "int32")}
