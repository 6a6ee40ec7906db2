"""DefSent+: definitions predict entries that are made of definitions (WordNet).

Special about it:
- An entry is the mean of its definitions (`defsent.entry_embeddings`), so that
  any word, or words, can be a class: `defsent.definition_loss` is over all of them.
- Progressive training (`STAGES`): each stage has entries made by the encoder of the
  stage before, and starts from the first encoder again. "continued" is the control
  that goes on instead (`loss.restart`).
- `defsent.isotropic_entries` puts independent components in place of the entries.
- DefSent (`stage=words`) predicts a token by the frozen head of the language model;
  the losses of all stages stand in model.py.

Reference: Liu 2024, arXiv:2405.16153; Tsukagoshi et al. 2021, arXiv:2105.04339.

Deviations: the start is the first two blocks of a packaged reranker. It has no head of
a masked language model: DefSent's tokens are compared like entries, by their embeddings
and through a layer that is trained. It has no pooler either, so that this layer starts
as the identity, and components are turned onto the entries they are made of
(`measure.prepare`). Tokens, entries and components get one deviation, `loss.scale`.
Cosine decay after a warm-up for linear decay, for all methods. Entries of two to eight
definitions. Components at the second stage, by 50 iterations at most.
"""

import functools
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from contrastive_jax import evaluation, parallel, training
from contrastive_jax.tasks import text_encoders
from experiments.defsent import config as configs
from experiments.defsent import data, measure, model, report

STAGES = {
    "words": {"stage": "words"},
    "entries": {},
    "again": {},
    "components": {"loss.isotropic": True},
    "continued": {"loss.restart": False},
}


@chex.dataclass(frozen=True)
class State(training.TrainState):
    """Adds what definitions are compared with.

    Attributes:
      frozen: {"entries"}, entries or tokens, or the head of the language model.
    """

    frozen: chex.ArrayTree


def make_model(config, axis_name=None):
    """The encoder."""
    return text_encoders.make_recipe(config.model).model


def make_optimizer(config):
    """With clipped gradients and cosine decay."""
    return optax.chain(
        optax.clip_by_global_norm(config.loss.clip),
        training.make_optimizer(**config.optim, num_steps=config.train.num_steps),
    )


def init(config, start=None, entries=None):
    """The state at step 0: from an encoder's parameters, towards entries.

    Args:
      config: of the stage.
      start: parameters with "encoder", "head" and "pooler", as far as they are needed;
        random ones when None.
      entries: the matrix of entries, or of tokens for "words" where there is no head; a
        random one when None.
    """
    recipe, rng = text_encoders.make_recipe(config.model), jax.random.key(config.seed)
    if start is None:
        start = text_encoders.init_params(recipe, rng)
        start["pooler"] = start["head"]["dense"]
    start = jax.tree.map(jnp.array, start)  # copies: a step consumes its state
    params = {"encoder": start["encoder"]}
    if config.stage == "words" and "head" in start:
        frozen = start["head"]
    else:
        params["pooler"] = model.layer_of(config, start, recipe.model.width)
        if entries is None:
            shape = config.data.entries, recipe.model.width
            entries = config.loss.scale * jax.random.normal(rng, shape)
        frozen = {"entries": jnp.array(entries)}
    fields = training.init_fields(config.seed, params, make_optimizer(config))
    return State(**fields, frozen=frozen)


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; batch: see `data.learn_rows`."""
    tx, loss_of = make_optimizer(config), model.make_loss(config, axis_name)

    def step(state, batch):
        count = len(batch["tokens"])
        keys = parallel.example_keys(state.rng, state.step, count, axis_name)

        def loss_fn(params):
            return loss_of(params, state.frozen, batch, keys)

        run = parallel.value_and_grad(loss_fn, axis_name, has_aux=True)
        (loss, pooled), grads = run(state.params)
        if config.stage == "words":  # embeddings are frozen, as where compared
            token = grads["encoder"]["token"]
            zeros = {"token": jax.tree.map(jnp.zeros_like, token)}
            grads = grads | {"encoder": grads["encoder"] | zeros}
        rate = training.warmup_cosine(
            config.optim.learning_rate,
            config.train.num_steps,
            config.optim.warmup_steps,
        )
        metrics = {
            "loss": loss,
            "grad_norm": training.global_norm(grads),
            "learning_rate": rate(state.step),
            "mean_cosine": evaluation.average_cosine(
                parallel.all_gather(pooled, axis_name)
            ),
        }
        return training.apply_gradients(state, grads, tx), metrics

    return step


batches = data.batches


def tokens_of(params) -> np.ndarray:
    """The embeddings of all tokens [v, d]."""
    return np.asarray(params["encoder"]["token"]["embedding"])


def train_stages(config, names, start, workdir, done):
    """Parameters and entries after stages, each with entries by the one before.

    Args:
      config: of all stages.
      names: keys of STAGES.
      start: the first encoder, a `TextEncoder`.
      workdir: folder of the run.
      done: what this returned, by names of stages, and entries as they are before
        `measure.prepare`: what is there is not computed again.
    """
    place, params = pathlib.Path(workdir), start.params
    for i, name in enumerate(names):
        own, place = training.changed(config, STAGES[name]), place / name
        before, key = names[:i], names[: i + 1]
        if key not in done:
            rows, entries = data.learn_rows(own, start.tokenizer), None
            if own.stage == "entries":
                if ("entries of", before) not in done:
                    made = measure.make_entries(own, params, rows)
                    done["entries of", before] = made
                entries = measure.prepare(own, done["entries of", before])
            elif "head" not in params:
                entries = measure.prepare(own, tokens_of(params))
            first = start.params if own.loss.restart else start.params | params
            print(f"{', '.join(key)}:", flush=True)
            state = training.train(
                own,
                place,
                functools.partial(init, start=first, entries=entries),
                make_step,
                functools.partial(batches, arrays=rows),
                evals=measure.watch(own, start.tokenizer),
                eval_every=config.eval.every,
            )
            done[key] = jax.device_get(state.params), entries
        params = done[key][0]
    return done[names]


def evaluate(config, trained, start):
    """Measures of the encoders, and of the matrices of entries.

    Args:
      config: of the run.
      trained: {method: (parameters, entries or None)}.
      start: the first encoder.

    Returns:
      the measures, and the matrices by name.
    """
    matrices = {"tokens": tokens_of(start.params)}
    names = {"one stage": "entries 1", "two stages": "entries 2"}
    names["isotropic"] = "components"
    for method, name in names.items():
        if method in trained:
            matrices[name] = trained[method][1]
    results = {
        f"{name}/{key}": value
        for name, matrix in matrices.items()
        for key, value in measure.isotropy(matrix).items()
    }
    encoders = {"start": start.params} | {k: v[0] for k, v in trained.items()}
    for name, params in encoders.items():
        found = measure.measures(config, params, start.tokenizer)
        results |= {f"{name}/{key}": value for key, value in found.items()}
    return results, matrices


def run(config, workdir):
    """The start, every method's stages, evaluation and the report."""
    start, done = text_encoders.start(config, workdir), {}
    trained = {
        name: train_stages(config, configs.METHODS[name], start, workdir, done)
        for name in config.methods
    }
    results, matrices = evaluate(config, trained, start)
    report.write(workdir, __doc__, config, results, matrices)
    return results
