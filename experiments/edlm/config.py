"""Configs of EDLM (Xu et al. 2024, arXiv:2410.21357)."""

from ml_collections import ConfigDict

from contrastive_jax import training

VARIANTS = ("", "smoke", "paper")
CHECKS = training.Checks(
    metric="loss",
    change=-0.3,
    stages=("mdlm", "ar", "nce"),
    paper_rows=1,  # 3.8 GB a row
    positive=(
        "data.length",
        "eval.bound_proposals",
        "eval.num_proposals",
        "eval.samples",
        "eval.temperature",
        "eval.times",
        "eval.windows",
        "eval.quick_proposals",
        "eval.steps",
        "later.ar",
        "later.judge",
        "later.nce",
        "later.nce_learning_rate",
        "model.depth",
        "model.heads",
        "model.vocab_size",
    ),
    not_negative=("data.first", "eval.repeats"),
    ranges={
        "eval.quick_windows": "[0, 1]",
        "eval.window": "[0, 1]",
        "loss.ema": "[0, 1]",
        "loss.eps": "[0, 1)",
        "loss.min_t": "[0, 1)",
        "model.dropout": "[0, 1)",
    },
    choices={
        "eval.sign": ("paper", "released"),
        "eval.split": ("test", "validation"),
        "stage": ("mdlm", "ar", "nce", "judge"),
    },
    free=("data.name",),
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" is letters of the Brown corpus."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=3e-3, warmup_steps=20),
        train=dict(num_steps=1200, save_every=200),
    )
    # What make_step and init are for: "mdlm", "ar", "judge" or "nce"; `run` does all.
    config.stage = "mdlm"
    config.data = ConfigDict(
        dict(
            name="brown",
            length=40,
            first=0,  # every window begins with this token: the space
            batch_size=64,
        )
    )
    config.model = ConfigDict(
        dict(
            vocab_size=28,  # space, 26 letters, mask
            width=96,
            depth=3,
            heads=4,
            dropout=0.0,
            dtype="float32",
        )
    )
    config.loss = ConfigDict(
        dict(
            eps=1e-3,  # of the schedule; released code
            min_t=1e-3,  # smallest time; released code
            ema=0.99,
        )
    )
    # Steps of the stages after the denoiser's; learning rate of the energy.
    config.later = ConfigDict(dict(ar=600, nce=400, judge=600, nce_learning_rate=1e-3))
    config.eval = ConfigDict(
        dict(
            split="test",  # "validation" for choices
            steps=(5, 10, 20, 40, 80),  # per letter as in the paper's tables
            samples=128,
            num_proposals=8,  # 1 turns the energy off
            window=1.0,
            temperature=1.0,
            sign="paper",  # "released": the sign of the released sampler
            # For speed, every pair of these; the paper has 2 and a window of 0.2.
            quick_proposals=(4,),
            quick_windows=(1.0,),
            windows=128,  # test windows of the likelihood bounds
            times=8,  # times of each
            bound_proposals=16,
            repeats=1,  # timed calls of each sampler; 0 measures no time
        )
    )

    if variant == "smoke":
        config.data.update(name="synthetic", length=12, batch_size=64)
        config.model.update(width=16, depth=1, heads=2)
        config.optim.update(learning_rate=1e-2, warmup_steps=9)
        config.train.update(num_steps=60, log_every=3, save_every=30)
        config.later.update(ar=10, nce=10, judge=10, nce_learning_rate=1e-2)
        config.eval.update(
            steps=(2,),
            samples=8,
            num_proposals=2,
            windows=8,
            times=2,
            bound_proposals=2,
            repeats=0,
        )
    elif variant == "paper":
        # OpenWebText by the GPT-2 tokenizer: [n] uint16 in a .npy file per split.
        config.data.update(name="~/openwebtext/{split}.npy", length=1024, first=50_256)
        config.data.batch_size = 512  # released code
        config.model.update(
            vocab_size=50_258,  # GPT-2 and the mask
            width=768,  # released code: small
            depth=12,
            heads=12,
            dropout=0.1,  # released code
            dtype="bfloat16",  # released code
        )
        config.loss.ema = 0.9999  # released code
        config.optim.update(
            learning_rate=3e-4,  # released code; constant there, a cosine here
            warmup_steps=2500,  # released code
        )
        # Released code: 1M steps of MDLM; the energy's 400k are one reading, 10k
        # another; the autoregressive models are published checkpoints there.
        config.train.update(num_steps=1_000_000, log_every=100, save_every=5000)
        config.later.update(ar=1_000_000, nce=400_000, judge=1_000_000)
        config.later.nce_learning_rate = 3e-4  # released code
        config.eval.update(
            split="validation",
            steps=(256, 512, 1024, 2048),  # table of generative perplexities
            samples=2048,
            windows=2048,
            quick_proposals=(2,),  # section on speed
            quick_windows=(0.2,),
        )
    return config


def paper_batch():
    """A row of the recipe's batch: shape and type of each array."""
    return {"tokens": ((1024,), "int32")}


def sweep():
    """Proposals and windows, the paper's ablation."""
    for k in (2, 4, 8):
        for w in (0.2, 0.6, 1.0):
            yield {"eval.num_proposals": k, "eval.window": w}
