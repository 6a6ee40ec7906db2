"""Configs of cDPO (Lin et al. 2024, arXiv:2411.19943)."""

from ml_collections import ConfigDict

from contrastive_jax import training

VARIANTS = ("", "champ", "smoke", "paper")
METHODS = ("sft", "dpo", "cdpo", "dpo_token", "cdpo_token", "cdpo_by_probability")
CHECKS = training.Checks(
    metric="loss",
    change=-0.3,
    stages=("predict", "prefer"),
    paper_rows=1,
    positive=(
        "base.num_steps",
        "champ.length",
        "champ.problems",
        "champ.solutions",
        "chunk",
        "data.operations",
        "data.questions",
        "data.samples",
        "data.test",
        "data.train",
        "eval.rows",
        "learning_rates",
        "loss.beta",
        "lora.alpha",
        "lora.blocks",
        "lora.rank",
        "model.depth",
        "model.heads",
        "model.kv_heads",
        "model.max_length",
        "model.mlp_width",
        "model.rotary_base",
        "model.vocab_size",
    ),
    not_negative=("loss.contrast",),
    ranges={"base.accuracy": "[0, 1]", "loss.label_smoothing": "[0, 1]"},
    choices={
        "lora.targets": ("mlp", "all"),
        "loss.form": ("sequence", "token"),
        "loss.weights": ("contrast", "probability", "none"),
        "methods": METHODS,
        "stage": ("predict", "prefer"),
    },
    free=("champ.path",),
    optional=("champ", "lora"),
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" is chains of digits, "champ" marked solutions."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=3e-3, warmup_steps=10),
        train=dict(num_steps=400, log_every=10, save_every=500),
    )
    config.stage = "predict"  # or "prefer"; `run` does both
    config.data = ConfigDict(
        dict(
            operations=4,
            train=3000,  # questions the base is trained on
            questions=2000,  # sampled for right and wrong traces
            samples=8,
            test=1000,
            batch_size=64,
        )
    )
    config.model = ConfigDict(
        dict(
            vocab_size=16,
            width=48,
            depth=2,
            heads=4,
            kv_heads=4,
            mlp_width=128,
            max_length=32,
            rotary_base=10_000.0,
            tied=True,
            dtype="float32",
        )
    )
    config.champ = None  # settings of marked solutions, which then are the task
    config.lora = None  # settings of adapters; None tunes all weights
    config.loss = ConfigDict(
        dict(
            beta=0.1,
            label_smoothing=0.0,
            form="sequence",  # "token" as in the released code
            weights="contrast",  # "none" is DPO
            contrast=1.0,  # strength of the contrast
            chunk=4096,  # tokens whose logits are held at a time
        )
    )
    # The base: the shortest of these that is right on this share of held-out questions.
    config.base = ConfigDict(dict(num_steps=tuple(range(200, 1001, 50)), accuracy=0.35))
    # The positive and the negative model; the methods' budgets, beside each other.
    config.contrast = ConfigDict(dict(num_steps=200, learning_rate=1e-3))
    config.tune = ConfigDict(
        dict(num_steps=(100, 300, 300), learning_rates=(3e-4, 3e-4, 1e-3))
    )
    config.methods = METHODS
    config.eval = ConfigDict(dict(rows=500))  # scored at a time

    if variant == "smoke":
        config.data.update(operations=2, train=512, questions=300, samples=4, test=50)
        config.data.batch_size = 32
        config.model.update(width=16, depth=1, heads=2, kv_heads=2, mlp_width=32)
        config.optim.update(learning_rate=2e-2, warmup_steps=5)
        config.train.update(num_steps=60, log_every=3, save_every=30)
        config.base.num_steps = (60,)
        config.contrast.num_steps = 12
        config.tune.update(num_steps=(12,), learning_rates=(1e-3,))
        config.methods = ("dpo", "cdpo")
    elif variant == "champ":
        config.champ = ConfigDict(
            dict(
                path="smollm2",  # or any that `language_models.load` knows
                length=192,  # tokens of a problem with its solution
                problems=96,  # with marked solutions, for the test
                solutions=4,  # right and wrong ones of each problem to tune on
            )
        )
        config.data.batch_size = 4
        config.train.update(log_every=2, save_every=100)
        config.optim.warmup_steps = 2
        smollm2(config.model)
        # On the last blocks only, to be quick.
        config.lora = ConfigDict(dict(rank=8, alpha=16.0, targets="mlp", blocks=6))
        config.contrast.update(num_steps=16, learning_rate=2e-3)
        config.loss.chunk = 512
        config.eval.rows = 4
    elif variant == "paper":
        # Llama-3-8B on traces it sampled for GSM8K and MATH (appendix, released code).
        config.data.batch_size = 8  # released code: 2 x 4
        config.data.samples = 64  # section 3
        config.model.update(
            vocab_size=128_256,
            width=4096,
            depth=32,
            heads=32,
            kv_heads=8,
            mlp_width=14_336,
            max_length=8192,
            rotary_base=500_000.0,
            tied=False,
            dtype="bfloat16",  # not stated
        )
        # Released code: rank 16, alpha 32 on all layers for preferences; rank 8, alpha
        # 16 on the MLPs for the positive and the negative model.
        config.lora = ConfigDict(dict(rank=16, alpha=32.0, targets="all", blocks=32))
        config.optim.update(
            learning_rate=4e-5,  # released code; linear decay there
            weight_decay=0.01,  # released code
            warmup_steps=300,  # released code: 10 %
        )
        # Released code: 3 epochs; of how many pairs is not stated. This is for 8,000.
        config.train.update(num_steps=3000, log_every=10, save_every=500)
        config.contrast.learning_rate = 3e-4  # released code
        config.tune.update(num_steps=(3000,), learning_rates=(4e-5,))
        config.loss.chunk = 512
    return config


def smollm2(model: ConfigDict) -> None:
    """Sizes of SmolLM2-135M; the loaded head is an array of its own."""
    model.update(
        vocab_size=49_152,
        width=576,
        depth=30,
        heads=9,
        kv_heads=3,
        mlp_width=1536,
        max_length=8192,
        rotary_base=100_000.0,
        tied=False,
    )


def paper_batch():
    """A row of the recipe's batch: shape and type of each array."""
    tokens, labels = (1024,), (1023,)
    return {
        "tokens": (tokens, "int32"),
        "response": (labels, "bool"),
        "chosen": (tokens, "int32"),
        "chosen_response": (labels, "bool"),
        "rejected": (tokens, "int32"),
        "rejected_response": (labels, "bool"),
        "rejected_weights": (labels, "float32"),
    }
