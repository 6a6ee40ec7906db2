"""Configs of AMCL (Wang et al. 2024, arXiv:2310.05615)."""

from ml_collections import ConfigDict

from contrastive_jax import training
from contrastive_jax.tasks import images

HOSTS = ("simclr", "moco", "simsiam")
METHODS = ("plain", "heads", "amcl", "amcl_sum")
VARIANTS = (
    "",
    *(f"smoke{x}" for x in ("", "_moco", "_simsiam")),
    *(f"paper{x}" for x in ("", "_moco", "_simsiam")),
)
CHECKS = images.checks(
    change=-0.2,
    steps=("smoke_moco", "smoke_simsiam"),
    positive=("heads", "lower", "upper", "score_width", "compared.rows"),
    not_negative=("loss.beta", "loss.queue_size"),
    ranges={"loss.decay": "[0, 1]"},
    choices={
        "loss.host": HOSTS,
        "loss.aggregation": ("max", "logsumexp"),
        "model.score": ("concat", "dot"),
        "compared.hosts": HOSTS,
        "compared.methods": METHODS,
    },
    free=("augmentations", "compared.strengths"),
)


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant; "" is emoji by category."""
    training.check_variant(variant, VARIANTS)
    config = training.defaults(
        optim=dict(learning_rate=1e-2, warmup_steps=20, weight_decay=1e-4),
        train=dict(num_steps=250, save_every=250),
    )
    config.data = images.data("emoji", batch_size=64)
    config.data.held_out = 0.1
    blur = dict(p=0.5, sigma=(0.1, 1.0), kernel=0.1)
    config.data.augment.blur = ConfigDict(blur)
    # Those in use of: a crop, b blur, c gray, d color jitter, e flip.
    config.augmentations = "abcde"
    config.model = images.small_resnet(
        grid=2,
        heads=3,
        adaptive=True,  # off: every pair has loss.temperature
        score="dot",  # how a temperature is made of a pair: "concat" or "dot"
        score_width=32,
        lower=0.1,
        upper=1.0,
    )
    config.loss = dict(
        host="simclr",
        temperature=0.2,  # where learned ones begin
        aggregation="max",
        beta=0.01,
        queue_size=1024,  # these two: MoCo
        decay=0.98,
    )
    # What run() trains; rows: test rows of the pictures.
    config.compared = dict(
        hosts=HOSTS, methods=METHODS, strengths=("a", "abcde"), rows=500
    )
    config.watch = images.watching(every=125, rows=1000)
    config.eval = images.evaluation()

    kind, _, host = variant.partition("_")
    config.loss.host = host or "simclr"
    if kind == "smoke":
        images.use_digits(config)
        config.data.held_out = 0.1
        config.optim.learning_rate = 5e-3
        config.model.heads = 2
        config.loss.update(queue_size=128, decay=0.9)
        strengths = ("abcde",) if host else ("ae",)
        config.compared.update(hosts=(config.loss.host,), strengths=strengths)
        # The maximum takes longer than this to learn anything.
        method = "amcl" if host == "simsiam" else "amcl_sum"
        config.compared.update(methods=(method,), rows=100)
    elif kind == "paper":
        paper(config, config.loss.host)
    return config


def paper(config: ConfigDict, host: str) -> None:
    """The recipe of the released code, but on images of a TFDS folder.

    CIFAR-10 there; the sizes of ResNet-18 with its stem, the heads and the optimizer.
    """
    views = config.data.augment
    config.data.update(name="cifar10", data_dir="~/tensorflow_datasets", size=32)
    config.data.update(batch_size=512, held_out=0.0)  # train_eval.py
    views.update(size=(32, 32), crop=images.crop(0.08, "linear"))  # set a
    views.update(flip=0.5, gray=0.2)  # e and c
    views.blur.update(p=0.5)  # b
    views.jitter.update(  # d: strength 0.5
        p=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1
    )
    config.model.update(
        stage_sizes=(2, 2, 2, 2),  # ResNet-18 with the stem of CIFAR, 512 features
        width=64,
        stem_stride=1,
        grid=1,
        projection=(512, 128),  # src/models.py
        heads=3,
        score="concat",  # adaptive_temperature.py
        score_width=128,
        lower=1e-5,  # the same
        upper=2.0,
    )
    config.loss.update(beta=0.1, aggregation="max")  # the table of adapted losses
    config.loss.temperature = 0.1 if host == "moco" else 0.5  # of the plain hosts
    config.loss.update(queue_size=4096, decay=0.99)  # MoCo
    config.optim.update(
        name="sgd",  # momentum 0.9
        learning_rate={"simclr": 0.06, "moco": 0.08, "simsiam": 0.05}[host],
        warmup_steps=0,
        weight_decay=5e-4,
    )
    # 800 epochs of 97 batches.
    config.train.update(num_steps=77_600, log_every=97, save_every=9700)
    config.compared.update(hosts=(host,), strengths=("abcde",))
    config.watch.update(every=970, rows=5000)
    config.eval.update(k=200)


def paper_batch():
    """A row of the batches of CIFAR-10: shape and type of each array."""
    return {"image": ((32, 32, 3), "uint8"), "label": ((), "int32")}
