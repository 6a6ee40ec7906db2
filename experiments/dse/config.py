"""Configs of DSE, distilled sentence embeddings (Barkan et al. 2020)."""

from ml_collections import ConfigDict

from contrastive_jax import training
from contrastive_jax.tasks import text_encoders

VARIANTS = ("", "smoke", "paper")
METHODS = ("labels", "dse_labeled", "dse", "teacher_only", "dse_dot")
CHECKS = training.Checks(
    metric="loss",
    change=-0.2,
    paper_rows=1,
    positive=(
        *text_encoders.POSITIVE,
        "data.labeled",
        "data.length",
        "data.negatives",
        "data.pool",
        "data.test",
        "data.validation",
        "data.words",
        "eval.candidates",
        "eval.chunk",
        "eval.every",
        "eval.queries",
        "eval.teacher_pairs",
        "head.classes",
        "head.layers",
        "head.rate",
    ),
    not_negative=("data.unlabeled",),
    ranges={
        **text_encoders.RANGES,
        "loss.coeff": "[0, 1]",
        "teacher.layers": "[0, inf)",
    },
    choices={
        **text_encoders.CHOICES,
        "eval.split": ("test", "validation"),
        "head.combine": ("concat", "mean"),
        "head.features": ("concat", "dot"),
        "methods": METHODS,
        "loss.task": ("multiclass", "binary", "regression"),
        "param_dtype": ("float32", "bfloat16"),
    },
    free=(*text_encoders.FREE, "data.name", "teacher.path"),
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" is verses in two translations."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=3e-5, warmup_steps=10, weight_decay=0.01),
        train=dict(num_steps=100, log_every=5, save_every=100),
    )
    config.data = ConfigDict(
        dict(
            name="verses",
            labeled=50,  # pairs with a label
            unlabeled=1950,  # pairs that the teacher alone says something of
            validation=400,
            test=600,
            words=16,  # most words of a verse
            pool=3000,  # verses of the training side, and as many of the test's
            negatives=3,  # of so many nearest verses one is a query's wrong answer
            length=24,  # tokens of a text; longer ones are cut
            batch_size=32,
        )
    )
    # The real cross-encoder, ms-marco-MiniLM-L-12-v2; calibrate: see `model.calibrate`.
    config.teacher = text_encoders.packaged(path="reranker")
    config.teacher.calibrate = True
    # Its first layers are where the students start.
    config.model = text_encoders.packaged(path="reranker", layers=2)
    config.head = ConfigDict(
        dict(
            features="concat",  # or "dot"
            layers=2,  # k, of the encoder's last ones
            combine="concat",  # or "mean", of these
            width=128,
            classes=1,
            rate=10.0,  # its learning rate over the encoder's
            standardize=True,  # coordinates of embeddings, as the start has them
            drop=False,  # whether the encoder's dropout acts, and on pooled vectors
        )
    )
    config.loss = ConfigDict(
        dict(
            task="binary",
            coeff=0.5,  # lambda on labeled pairs; 0 is training without a teacher
            unlabeled=True,  # whether the others are trained on, with lambda = 1
        )
    )
    config.methods = METHODS
    config.eval = ConfigDict(
        dict(
            split="test",
            every=25,  # steps between looks at the validation pairs
            queries=200,  # of the scoring that is timed
            candidates=2000,
            chunk=32,  # candidates at a time
            teacher_pairs=128,  # of these, read by the teacher
            timed=True,  # whether seconds are among the results
        )
    )

    if variant == "smoke":
        config.data.update(name="synthetic", labeled=128, unlabeled=128)
        config.data.update(validation=64, test=64, length=16, batch_size=32)
        config.teacher.update(path="overlap")
        config.model = text_encoders.small(
            vocab_size=300, width=32, depth=1, heads=2, mlp_width=64, max_length=16
        )
        config.start = text_encoders.starting(
            texts="synthetic", count=500, length=16, num_steps=0
        )
        config.head.update(layers=1, width=16, rate=1.0)
        config.optim.update(learning_rate=3e-3, warmup_steps=5)
        config.train.update(num_steps=40, log_every=2, save_every=20)
        config.eval.update(every=40, queries=8, candidates=64, teacher_pairs=8)
        config.eval.timed = False
        config.methods = ("dse",)
    elif variant == "paper":
        # MRPC of GLUE (section 4); files with columns sentence1, sentence2, label.
        config.data.name = "~/glue/MRPC/{split}.tsv"
        config.data.update(
            labeled=3668,  # all of them have labels
            unlabeled=0,
            validation=408,
            test=1725,
            length=128,  # released code
            batch_size=32,  # released code: 16 x 2 accumulated
        )
        # BERT-large, whole-word masking, and the same fine-tuned on the task with two
        # classes (released code).
        config.model = text_encoders.packaged(path="~/bert-large-uncased-wwm")
        config.teacher.update(path="~/bert-large-uncased-wwm-mrpc", calibrate=False)
        config.head.update(
            layers=4,  # released code, concatenated
            width=512,  # released code, (512, C)
            classes=1,  # binary; 3 for MNLI
            rate=1.0,
            standardize=False,
            drop=True,
        )
        config.loss.coeff = 0.5  # released code
        config.optim.update(
            learning_rate=2e-5,  # released code
            warmup_steps=92,  # released code: a tenth; linear decay there
            weight_decay=0.01,  # released code
        )
        # 8 epochs (example of MRPC in the released code).
        config.train.update(num_steps=917, log_every=10, save_every=115)
        config.eval.every = 115
    return config


def paper_batch():
    """A row of the recipe's batch: shape and type of each array."""
    tokens, where = ((128,), "int32"), ((128,), "bool")
    return {
        "first": tokens,
        "first_where": where,
        "second": tokens,
        "second_where": where,
        "label": ((), "float32"),
        "labeled": ((), "bool"),
        "teacher": ((1,), "float32"),
    }


def sweep():
    """Lambda, as in the paper's ablation."""
    for coeff in (0.0, 0.25, 0.5, 0.75, 1.0):
        yield {"loss.coeff": coeff}
