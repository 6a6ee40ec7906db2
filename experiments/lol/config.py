"""Configs of LOL (Chen et al. 2024, arXiv:2408.08769)."""

from ml_collections import ConfigDict

from contrastive_jax import training
from contrastive_jax.tasks import language_models as lms

VARIANTS = ("", "synthetic", "smoke", "paper")
CHECKS = training.Checks(
    metric="loss",
    change=-0.5,
    positive=(
        *lms.POSITIVE,
        "data.entities",
        "data.false",
        "data.objects",
        "data.questions",
        "data.relations",
        "rule.layers",
        "tune.lora.alpha",
        "tune.lora.blocks",
        "tune.lora.rank",
    ),
    not_negative=("model.vocab_size", "rule.gammas", "rule.lams"),
    ranges={"data.tuned_share": "(0, 1]", "rule.alpha": "[0, 1]"},
    choices={
        "amateurs": ("tuned", "prompt"),
        "data.lines": ("all", "myths"),
        "data.split": ("test", "development"),
        "tune.lora.targets": ("mlp", "all"),
    },
    free=("data.file", *lms.FREE),
    optional=("lora",),
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" asks SmolLM2 about countries."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=3e-3, warmup_steps=100),
        train=dict(num_steps=2500, log_every=1, save_every=500),
    )
    # Questions with one true answer and `false` ones: from `file`, about countries, or
    # (model.path empty) about a synthetic corpus with myths, which models learn.
    config.data = ConfigDict(
        dict(
            file="",  # TruthfulQA.csv
            questions=48,
            false=3,
            split="test",  # or "development", countries on which `tune` was chosen
            entities=150,  # of the corpus, as all that follow
            relations=4,
            objects=40,
            lines="all",  # or "myths", those that the amateur is tuned on
            tuned_share=0.4,  # of the entities whose myths the amateur is tuned on
            batch_size=192,
        )
    )
    config.model = lms.model()
    config.model.update(lms.small(depth=4, max_length=16))  # of the trained one
    config.model.vocab_size = 0  # that of the corpus
    # Tuned on false answers, or made to lie by three of them; the first is the one of
    # the pictures, others have rules of their own ("icd_by_prompt").
    config.amateurs = ("tuned", "prompt")
    config.tune = ConfigDict(dict(num_steps=20, learning_rate=3e-3, batch_size=8))
    # Adapters; None tunes all weights.
    config.tune.lora = ConfigDict(dict(rank=8, alpha=16.0, targets="all", blocks=30))
    # The weaker model of contrastive decoding.
    config.weak = ConfigDict(dict(width=16, depth=1, heads=2, mlp_width=32))
    config.rule = ConfigDict(
        dict(
            lams=(0.5, 1.0, 2.0),  # weights of the lower layer
            gammas=(0.0, 0.5, 1.0),  # and of the instruction to be truthful
            alpha=0.1,  # of the plausibility mask; 0 is none
            layers=(6, 12, 18, 22, 26, 28),  # outputs of these blocks, read out early
        )
    )
    config.eval = ConfigDict(dict(batch_size=24))

    if variant in ("synthetic", "smoke"):
        config.model.path = ""
        config.amateurs = ("tuned",)
        config.tune.update(num_steps=300, learning_rate=1e-3, batch_size=192)
        config.tune.lora = None
        config.train.log_every = 50
        config.data.questions = 600
        config.rule.layers = (1, 2, 3)
        config.eval.batch_size = 400
    if variant == "smoke":
        config.data.update(questions=30, entities=10, relations=2, objects=8)
        config.data.batch_size = 64
        config.model.update(width=32, depth=2, heads=2, mlp_width=64)
        config.optim.update(learning_rate=1e-2, warmup_steps=10)
        config.train.update(num_steps=100, log_every=5, save_every=40)
        config.tune.update(num_steps=20, learning_rate=1e-2, batch_size=64)
        config.tune.lora = ConfigDict(dict(rank=4, alpha=8.0, targets="all", blocks=2))
        config.rule.update(lams=(1.0,), gammas=(0.0, 0.5), layers=(1,))
        config.eval.batch_size = 120
    elif variant == "paper":
        # Nothing is trained here: the amateur is one by prompt. The paper's text could
        # not be opened: no value is from it ("not stated"). Llama-2-7B-Chat from a
        # folder in Hugging Face layout; sizes of that model, for the tests that build
        # it by shapes.
        config.model.update(
            path="~/Llama-2-7b-chat-hf",
            width=4096,
            depth=32,
            heads=32,
            mlp_width=11008,
            max_length=4096,
            vocab_size=32000,
        )
        config.amateurs = ("prompt",)  # ICD: adapters, from 10,000 generated answers
        config.data.update(file="~/TruthfulQA.csv", questions=817)  # all of TruthfulQA
        config.rule.layers = tuple(range(16, 32, 2))  # DoLa's upper bucket for 7B
        config.eval.batch_size = 8
    return config


def paper_batch():
    """A row of a batch of the step that `paper` builds by shapes."""
    return {"tokens": ((64,), "int32"), "where": ((64,), "bool")}
