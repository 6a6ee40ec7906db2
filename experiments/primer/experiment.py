"""Primer: the families of contrastive objectives on one encoder and one long tail.

Special about it:
- Input against input: two views of a text (`parallel.nt_xent`, `losses.vicreg`) or
  texts of a label (`parallel.supervised_contrastive`, `losses.triplet_batch_hard`).
- Input against the text of a label, with sampled negatives (`ebm.binary_nce`,
  `ebm.ranking_nce`) or all labels (`ebm.input_label_matching`, `losses.proxy_anchor`,
  `losses.distillation_kl` from the scores of "ranking_50", without labels).
- `loss.label_text` is the ablation: free vectors instead of the labels' texts.
- Labels with no training text are told by their own text (zero-shot) or by a few texts.
- Variant nce: binary against ranking NCE where the true log-chances are known.

Reference: Rethmeier and Augenstein 2023, arXiv:2102.12982 (a survey, without code).

Deviations: the survey trains nothing; data, encoder and all values are ours. Cosines
over a temperature, but for cross entropy, whose scores are inner products and a bias.
Words of a label's name are taken out of its texts.
"""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp

from contrastive_jax import (
    ebm,
    losses,
    pairs,
    parallel,
    randomness,
    similarity,
    training,
)
from experiments.primer import data, measure, report
from experiments.primer import model as models
from experiments.primer.config import METHODS

TEACHER = "ranking_50"


@chex.dataclass(frozen=True)
class State(training.TrainState):
    """Besides parameters and optimiser.

    Attributes:
      teacher: parameters of the trained encoder that is distilled; {} for none.
    """

    teacher: chex.ArrayTree


def make_model(config, axis_name=None):
    """The encoder, or the scores of the known model's outcomes."""
    if config.data.name == "categorical":
        known = models.truth_of(config)
        features = tuple(map(tuple, known.features.tolist()))
        return models.Contexts(features, len(known.scores), config.loss.normaliser)
    texts, free = data.texts_of(config), not config.loss.label_text
    labels = texts.seen if free else 0
    return models.Encoder(len(texts.vocabulary), **config.model, labels=labels)


def make_optimizer(config):
    """With warm-up and cosine decay."""
    return training.make_optimizer(**config.optim, num_steps=config.train.num_steps)


def init(config, teacher=None):
    """The state at step 0; distillation has a teacher, random when none is given."""
    model, rng = make_model(config), jax.random.key(config.seed)
    if config.data.name == "categorical":
        params = model.init(rng, jnp.zeros(1, jnp.int32))["params"]
    else:
        params = model.init(rng, jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2), bool))
        params = params["params"]
    if config.loss.objective != "distillation":
        teacher = {}
    else:  # a copy, for a step consumes its state
        teacher = jax.tree.map(jnp.copy, params if teacher is None else teacher)
    fields = training.init_fields(config.seed, params, make_optimizer(config))
    return State(**fields, teacher=teacher)


def contrast(config, scores, label, keys, log_noise, axis_name):
    """The loss of the scores [n, c] of each row against all labels."""
    loss, reduce_fn = config.loss, parallel.mean(axis_name)
    n, c = scores.shape
    if loss.objective == "input_label":
        own = pairs.one_column(label, c)
        return ebm.input_label_matching(scores - loss.shift, own, reduce_fn=reduce_fn)
    k = loss.negatives
    if loss.corrected:
        places = randomness.uniform(keys, (n, k))
        below = jnp.cumsum(jnp.exp(log_noise))[:-1]
        drawn = jnp.searchsorted(below, places, side="right")
        noise = {"positive_log_noise": log_noise[label]}
        noise["negative_log_noise"] = log_noise[drawn]
    else:  # any label but the own one
        drawn = jax.vmap(lambda key: jax.random.randint(key, (k,), 1, c))(keys)
        drawn, noise = (label[:, None] + drawn) % c, {}
    positive = jnp.take_along_axis(scores, label[:, None], axis=1)[:, 0]
    negative = jnp.take_along_axis(scores, drawn, axis=1)
    if loss.objective == "ranking":
        return ebm.ranking_nce(positive, negative, **noise, reduce_fn=reduce_fn)
    return ebm.binary_nce(
        positive, negative, shift=loss.shift, **noise, reduce_fn=reduce_fn
    )


def make_outcome_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; context [n], label [n]."""
    model, tx = make_model(config), make_optimizer(config)
    log_noise = jnp.asarray(models.truth_of(config).log_noise)

    def step(state, batch):
        label = batch["label"]
        keys = parallel.example_keys(state.rng, state.step, len(label), axis_name)

        def loss_fn(params):
            scores = model.apply({"params": params}, batch["context"])
            return contrast(config, scores, label, keys, log_noise, axis_name)

        return updated(state, parallel.value_and_grad(loss_fn, axis_name), tx)

    return step


def updated(state, value_and_grad, tx):
    """The state after a step, and what is logged."""
    loss, grads = value_and_grad(state.params)
    state = training.apply_gradients(state, grads, tx)
    return state, {"loss": loss, "grad_norm": training.global_norm(grads)}


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; tokens [n, t], label [n]."""
    if config.data.name == "categorical":
        return make_outcome_step(config, axis_name)
    model, tx, loss = make_model(config), make_optimizer(config), config.loss
    texts, temperature = data.texts_of(config), loss.temperature
    mean = parallel.mean(axis_name)
    log_noise = jnp.log(jnp.asarray(texts.counts / texts.counts.sum(), jnp.float32))
    label_tokens = jnp.asarray(texts.label_tokens[: texts.seen])

    def apply(params, tokens, where) -> Any:
        return model.apply({"params": params}, tokens, where)

    def unit(params, tokens, where):
        return similarity.l2_normalize(apply(params, tokens, where))

    def label_units(params):
        if loss.label_text:
            return unit(params, label_tokens, label_tokens > 0)
        return similarity.l2_normalize(params["label_vectors"])

    def of_views(params, views, label):
        """Two views of all texts: in pairs, or by label."""
        if loss.objective == "vicreg":
            raw = [loss.scale * apply(params, *x) for x in views]
            return losses.vicreg(*parallel.all_gather(tuple(raw), axis_name))
        z = jnp.concatenate([unit(params, *x) for x in views])
        if loss.objective == "nt_xent":
            return parallel.nt_xent(z, axis_name=axis_name, temperature=temperature)
        labels = jnp.tile(label, 2)
        if loss.objective == "supcon":
            return parallel.supervised_contrastive(
                z, labels, axis_name=axis_name, temperature=temperature
            )
        every, of_every = parallel.all_gather((z, labels), axis_name)
        rows = parallel.global_rows(len(z), axis_name)
        return losses.triplet_batch_hard(
            similarity.euclidean_distance(z, every),
            pairs.same_label(labels, of_every),
            where=~pairs.one_column(rows, len(every)),
            margin=loss.margin,
            reduce_fn=mean,
        )

    def of_labels(params, teacher, view, tokens, label, keys):
        """A view against all labels."""
        if loss.objective == "cross_entropy":
            scores = similarity.dot(apply(params, *view), params["label_vectors"])
            scores = scores + params["label_bias"][None, :]
            return losses.info_nce(scores, label, reduce_fn=mean)
        z, every = unit(params, *view), label_units(params)
        if loss.objective == "proxy_anchor":
            z, label = parallel.all_gather((z, label), axis_name)
            cosines, alpha = similarity.dot(z, every), 1 / temperature
            return losses.proxy_anchor(cosines, label, margin=loss.margin, alpha=alpha)
        scores = similarity.dot(z, every) / temperature
        if loss.objective == "distillation":
            taught = unit(teacher, tokens, tokens > 0), label_units(teacher)
            taught = similarity.dot(*taught) / temperature
            return losses.distillation_kl(scores, taught, reduce_fn=mean)
        return contrast(config, scores, label, keys, log_noise, axis_name)

    def step(state, batch):
        tokens, label = batch["tokens"], batch["label"]
        keys = parallel.example_keys(state.rng, state.step, len(label), axis_name)

        def view(number):
            """The words that a view keeps."""
            kept = jnp.full(tokens.shape, 1 - config.data.dropped)
            kept = randomness.bernoulli(randomness.fold_keys(keys, number), kept)
            return tokens, kept & (tokens > 0)

        def loss_fn(params):
            if loss.objective in measure.OF_INPUTS:
                return of_views(params, (view(0), view(1)), label)
            return of_labels(params, state.teacher, view(0), tokens, label, keys)

        return updated(state, parallel.value_and_grad(loss_fn, axis_name), tx)

    return step


batches = data.batches


def evaluate(config, trained):
    """Measures of every method, and the average precision of each label by each."""
    return measure.evaluate(config, trained, make_model, init)


def run(config, workdir):
    """Trains every method and writes the report; distillation comes last."""
    rest = {name: METHODS[name] for name in config.methods if name != "distillation"}
    if config.data.name == "categorical":
        trained = training.train_each(rest, config, workdir, init, make_step, batches)
        results = measure.nce(config, trained, make_model)
        report.write_nce(workdir, __doc__, config, results, trained, make_model)
        return results
    shared: dict[str, Any] = dict(
        make_step=make_step,
        batches=batches,
        evals=functools.partial(measure.evals, make_model=make_model),
        eval_every=config.watch.every,
    )
    trained = training.train_each(rest, config, workdir, init, **shared)
    if "distillation" in config.methods:
        last = {"distillation": METHODS["distillation"]}
        first = functools.partial(init, teacher=trained[TEACHER][1].params)
        trained |= training.train_each(last, config, workdir, first, **shared)
    results, by_label = evaluate(config, trained)
    report.write(workdir, __doc__, config, results, by_label, trained)
    return results
