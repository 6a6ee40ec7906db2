"""Configs of SimCTG (Su et al. 2022) and contrastive search (Su and Collier 2023)."""

from ml_collections import ConfigDict

from contrastive_jax import training
from contrastive_jax.tasks import language_models

VARIANTS = ("", "table", "smoke", "paper")
RULES = ("greedy", "beam", "top_k", "top_p", "contrastive")
CHECKS = training.Checks(
    metric="loss",
    change=-0.5,
    paper_rows=1,
    positive=(
        *language_models.POSITIVE,
        "beams",
        "clusters",
        "data.length",
        "new_tokens",
        "prefix",
        "prompts",
        "rows",
        "top_k",
    ),
    not_negative=("loss.margin",),
    ranges={"alpha": "[0, 1]", "alphas": "[0, 1]", "top_p": "(0, 1]"},
    choices={"eval.rules": RULES, "eval.split": ("test", "validation")},
    free=("data.name", "pretrained.path", "start.path"),
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" trains on the Brown corpus and decodes SmolLM2."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=3e-3, warmup_steps=30, weight_decay=0.01),
        train=dict(num_steps=800, log_every=40, save_every=400),
    )
    config.data = ConfigDict(dict(name="brown", length=64, batch_size=16))
    config.model = language_models.small(
        vocab_size=1024, width=128, depth=3, mlp_width=512, max_length=64
    )
    config.loss = ConfigDict(dict(margin=0.5))  # rho; 0 is the likelihood alone
    # A folder with a model to start from; without one the weights are random, and a
    # vocabulary is made of the training texts.
    config.start = ConfigDict(dict(path=""))
    # The model that is decoded besides; without one the trained model once more.
    config.pretrained = language_models.model()
    settings = dict(k=5, alpha=0.6, beams=4, top_k=50, top_p=0.95)
    config.eval = ConfigDict(
        dict(
            split="test",
            rules=RULES,
            rows=128,  # of text for perplexity and isotropy
            alphas=(0.0, 0.2, 0.4, 0.6, 0.8),  # of contrastive search, trained models
            clusters=5,  # of MAUVE
            trained=dict(prompts=48, prefix=16, new_tokens=48, **settings),
            pretrained=dict(prompts=24, prefix=24, new_tokens=40, **settings),
        )
    )

    if variant == "table":
        config.train.num_steps = 4000
        config.eval.rows = 512
        config.eval.trained.prompts = config.eval.pretrained.prompts = 128
    elif variant == "smoke":
        config.data.update(name="synthetic", length=16, batch_size=16)
        config.model.update(vocab_size=96, width=32, depth=1, mlp_width=64)
        config.optim.update(learning_rate=1e-2, warmup_steps=5)
        config.train.update(num_steps=60, log_every=3, save_every=30)
        config.pretrained.path = ""
        config.eval.update(rows=16, alphas=(0.0, 0.6), clusters=2)
        config.eval.rules = ("greedy", "contrastive")
        # As long as a row of training: the same programs.
        small = dict(prompts=16, prefix=7, new_tokens=10, k=3, beams=2, top_k=5)
        config.eval.trained.update(small)
        config.eval.pretrained.update(small)
    elif variant == "paper":
        # Wikitext-103, a paragraph a line (section 4.1; released code).
        config.data.update(
            name="~/wikitext-103/{split}.txt",
            length=256,  # released code, "max_len"
            batch_size=128,  # released code, 8 rows x 16 accumulated
        )
        # GPT-2 small, from its published weights (section 4.1).
        config.start.path = "~/gpt2"
        config.model.update(
            vocab_size=50_257, width=768, depth=12, heads=12, mlp_width=3072
        )
        config.model.max_length = 1024
        config.optim.update(
            learning_rate=2e-5,  # section 4.1
            warmup_steps=4000,  # released code: a tenth; linear decay there
            weight_decay=0.0,  # not stated
        )
        config.train.update(num_steps=40_000, log_every=100, save_every=2000)
        # GPT-2 large on WebText, 2023, section 5.1 and released code.
        config.pretrained.path = "~/gpt2-large"
        config.eval.update(rows=4096, clusters=500)
        long = dict(prompts=5000, prefix=40, new_tokens=200)
        config.eval.pretrained.update(long)
        config.eval.trained.update(long)
        config.eval.trained.update(k=8)  # 2022, section 4.2
    return config


def paper_batch():
    """A row of the recipe's batch: shape and type of each array."""
    return {"tokens": ((257,), "int32"), "where": ((257,), "bool")}


def sweep():
    """The margin, from none to the largest that the paper tries."""
    for margin in (0.0, 0.25, 0.5, 0.75):
        yield {"loss.margin": margin}
