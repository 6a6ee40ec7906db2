"""Configs of AdaCAD (Wang et al. 2025, arXiv:2409.07394)."""

from ml_collections import ConfigDict

from contrastive_jax import training
from contrastive_jax.tasks import language_models as lms

VARIANTS = ("", "synthetic", "smoke", "paper")
CHECKS = training.Checks(
    metric="loss",
    change=-1.0,
    positive=(
        *lms.POSITIVE,
        "data.entities",
        "data.queries",
        "data.relations",
        "data.objects",
        "decode.max_new",
    ),
    not_negative=("decode.min_alpha", "decode.strengths", "model.vocab_size"),
    ranges={"decode.ratio": "(1, inf)"},
    free=("data.file", *lms.FREE),
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" asks SmolLM2 about countries."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=3e-3, warmup_steps=100),
        train=dict(num_steps=2500, log_every=50, save_every=500),
    )
    # Questions of each kind: from `file`, about countries, or (model.path empty) from a
    # synthetic knowledge base, which a small model is trained on.
    config.data = ConfigDict(
        dict(
            file="",  # JSON lines in the format of the released code
            queries=120,
            entities=100,  # of the knowledge base, as the next three
            relations=4,
            objects=40,
            batch_size=192,
        )
    )
    config.model = lms.model()
    config.model.update(lms.small(max_length=16))  # of the trained one
    config.model.vocab_size = 0  # that of the knowledge base
    config.decode = ConfigDict(
        dict(
            strengths=(0.125, 0.25, 0.5, 1.0, 2.0, 4.0),  # of CAD
            min_alpha=0.0,  # of AdaCAD; 1 turns the adaptive strength off (CAD)
            ratio=4.0,  # of COIECD, released code
            max_new=3,  # most tokens of an answer
            batch_size=32,
        )
    )

    if variant in ("synthetic", "smoke"):
        config.model.path = ""
        config.data.queries = 2000
        config.decode.update(max_new=1, batch_size=500)
    if variant == "smoke":
        config.data.update(queries=40, entities=8, relations=2, objects=6)
        config.model.update(width=32, heads=2, mlp_width=64)
        config.data.batch_size = 64
        config.optim.update(learning_rate=1e-2, warmup_steps=10)
        config.train.update(num_steps=120, log_every=5, save_every=40)
        config.decode.update(strengths=(0.5, 1.0), batch_size=40)
    elif variant == "paper":
        # Nothing is trained. Llama-2-13B (section 4), from a folder in Hugging Face
        # layout; sizes of that model, for the tests that build it by shapes.
        config.model.update(
            path="~/Llama-2-13b-hf",
            width=5120,
            depth=40,
            heads=40,
            mlp_width=13824,
            max_length=4096,
            vocab_size=32000,
        )
        # NQ, NQ-Swap, TriviaQA, PopQA, HotpotQA, TabMWP: one file each (from memory).
        config.data.update(file="~/adacad/nq-swap.jsonl", queries=1_000_000)
        config.decode.update(
            strengths=(0.5, 1.0),  # CAD: 1 for questions, 0.5 for summaries
            min_alpha=0.0,  # 0 for questions, 0.3 for summaries (released code)
            max_new=32,  # released code; 100 for summaries
            batch_size=1,  # released code
        )
    return config


def paper_batch():
    """A row of a batch of the step that `paper` builds by shapes."""
    return {"tokens": ((64,), "int32"), "where": ((64,), "bool")}
