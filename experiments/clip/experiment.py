"""CLIP: an image and its caption attract, all other pairs of the batch repel.

Special about it:
- Symmetric cross entropy over all pairs of all devices (figure 3), dense, tiled,
  gathered or around a ring by size: `parallel.two_way_info_nce`.
- A learned temperature, its inverse kept at 100 at most (section 2.5).
- Any batch in the memory of a chunk: `parallel.cached_value_and_grad`, one chunk of
  both towers at a time.
- Alternative objective in the same program: pairwise sigmoid,
  `parallel.pairwise_sigmoid` (Zhai et al. 2023, arXiv:2303.15343), scale from 10, bias
  from -10.

Reference: Radford et al. 2021, arXiv:2103.00020; openai/CLIP (no training code).

Deviations: captions are words, not byte pairs; the default uses emoji (two vendors'
pictures per caption, one of them drawn at random per step), a small residual network
with group normalisation, a text tower without causal mask whose outputs are averaged,
and hides some words of a caption at random.
"""

import functools
import math

import jax
import jax.numpy as jnp

from contrastive_jax import models, parallel, training
from contrastive_jax.data import captions, make_augment
from contrastive_jax.tasks import images
from experiments.clip import data, measure, report

OBJECTIVES = ("clip", "siglip")


def make_model(config, axis_name=None):
    """The two towers; none of them looks at other rows of the batch."""
    for key in ("objective", "baseline"):
        name = config.loss[key]
        if name not in OBJECTIVES and (name or key == "objective"):
            raise ValueError(f"loss.{key}: expected one of {OBJECTIVES}, got {name!r}")
    return models.make_towers(
        config.model.image.to_dict(),
        config.model.text.to_dict(),
        dim=config.model.dim,
        vocabulary=config.data.vocabulary,
        dtype=jnp.dtype(config.model.dtype),
    )


def make_optimizer(config):
    """With warm-up and cosine decay."""
    return training.make_optimizer(**config.optim, num_steps=config.train.num_steps)


def init(config):
    """The state at step 0; params hold the towers and what the loss learns."""
    model, tx = make_model(config), make_optimizer(config)
    image = jnp.zeros((1, config.data.size, config.data.size, 3))
    tokens = jnp.ones((1, config.data.tokens), jnp.int32)
    towers = jax.jit(model.init)(jax.random.key(config.seed), image, tokens)["params"]
    if config.loss.objective == "clip":
        loss = {"log_scale": jnp.log(1 / config.loss.temperature)}
    else:
        loss = {"log_scale": jnp.log(10.0), "bias": jnp.array(-10.0)}
    params = {"towers": towers, "loss": loss}
    return training.TrainState(**training.init_fields(config.seed, params, tx))


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`.

    The batch holds image [n, v, h, w, 3] uint8 and tokens [n, t] int32.
    """
    model, tx = make_model(config), make_optimizer(config)
    augment = make_augment(**config.data.augment.to_dict())
    exchange = dict(exchange=config.loss.exchange, memory=config.loss.memory_gb * 1e9)

    def encode(method, params, x):
        return model.apply({"params": params["towers"]}, x, method=method)

    towers = {
        "image": functools.partial(encode, "encode_image"),
        "text": functools.partial(encode, "encode_text"),
    }

    def contrast(params, z):
        learned = dict(params["loss"])
        scale = jnp.exp(learned.pop("log_scale"))
        loss = {
            "clip": parallel.two_way_info_nce,
            "siglip": parallel.pairwise_sigmoid,
        }[config.loss.objective]
        options = dict(axis_name=axis_name, scale=scale, **learned, **exchange)
        value = loss(z["image"], z["text"], **options)
        return value, jnp.mean(jnp.sum(z["image"] * z["text"], axis=-1))

    def whole(params, inputs):
        return contrast(params, {k: f(params, inputs[k]) for k, f in towers.items()})

    if config.loss.chunk_size:
        value_and_grad = parallel.cached_value_and_grad(
            towers, contrast, axis_name, chunk=config.loss.chunk_size, has_aux=True
        )
    else:
        value_and_grad = parallel.value_and_grad(whole, axis_name, has_aux=True)

    def step(state, batch):
        rows = len(batch["tokens"])
        keys = parallel.example_keys(state.rng, state.step, rows, axis_name)
        first, second = jax.vmap(jax.random.split, out_axes=1)(keys)
        inputs = {
            "image": data.one_picture(batch["image"], first, augment),
            "text": data.hide_words(batch["tokens"], second, config.data.word_dropout),
        }
        (loss, cosine), grads = value_and_grad(state.params, inputs)
        state = training.apply_gradients(state, grads, tx)
        learned = dict(state.params["loss"])
        top = math.log(config.loss.max_scale)
        learned["log_scale"] = jnp.minimum(learned["log_scale"], top)
        metrics = {
            "loss": loss,
            "positive_cosine": cosine,
            "scale": jnp.exp(learned["log_scale"]),
            "grad_norm": training.global_norm(grads),
        }
        return state.replace(params={**state.params, "loss": learned}), metrics

    return step


def splits(config):
    """Training and test concepts, or two parts of the training ones (held out)."""
    train = data.open_split(config.data, "train")
    if not config.eval.held_out:
        return train, data.open_split(config.data, config.data.test_split)
    kept = round((1 - config.eval.held_out) * train.total)
    return train.part(0, kept), train.part(kept, train.total)


def batches(config, start_step):
    """Shuffled concepts: their pictures and the tokens of their captions."""
    vocabulary = data.open_vocabulary(config.data)
    return captions.batches(
        splits(config)[0],
        lambda captions: vocabulary.encode(captions, config.data.tokens),
        batch_size=config.data.batch_size,
        seed=config.seed,
        start_step=start_step,
    )


def embed(config, state):
    """Embeddings of the test concepts."""
    return measure.embed(
        make_model(config),
        state.params["towers"],
        splits(config)[1],
        data.open_vocabulary(config.data),
        config.data.tokens,
        limit=config.eval.limit,
    )


def check_encoders(config):
    """Refuses towers whose embeddings depend on the other rows of the batch."""
    model = make_model(config)
    batch = next(batches(config, 0))
    parallel.check_encoders(
        {
            "image": lambda p, x: model.apply(p, x / 255.0, method="encode_image"),
            "text": lambda p, x: model.apply(p, x, method="encode_text"),
        },
        {"params": init(config).params["towers"]},
        {"image": batch["image"][:, 0], "text": batch["tokens"]},
    )


def encode(config, state):
    """The frozen image tower: images in [0, 1] to embeddings of length 1."""
    return images.make_encoder(make_model(config), state.params["towers"], {})


def embed_each(config, trained):
    """Embeddings of the test concepts by model, and by the towers at step 0."""
    concepts = {name: embed(*pair) for name, pair in trained.items()}
    return concepts | {"random_init": embed(config, init(config))}


def evaluate(config, trained):
    """Recall and mean reciprocal rank (%) on test concepts, in both directions."""
    return measure.scores_of_each(embed_each(config, trained))


def run(config, workdir):
    """Trains objective and baseline, evaluates both and writes the report."""
    if config.loss.chunk_size:
        check_encoders(config)
    names = dict.fromkeys((config.loss.objective, config.loss.baseline))
    methods = {name: {"loss.objective": name} for name in names if name}
    trained = training.train_each(methods, config, workdir, init, make_step, batches)
    concepts = embed_each(config, trained)
    results = measure.scores_of_each(concepts)
    report.write(workdir, __doc__, config, results, concepts, methods)
    return results
