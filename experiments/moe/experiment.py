"""MoE-Sim: one encoder for several fields, with an expert of each layer for each.

Special about it:
- The MLPs of a trained encoder become experts (`models.upcycle_experts`); a text's
  field tells which works on it (`models.moe_enforced`) and is its first token
  (`moe.replace_first_with_field_token`).
- The loss is `moe.argmax_target_contrastive`; `experts.count` = 1 is the one shared
  encoder, `data.only` a specialist, `experts.routing` a learned router, which
  `losses.load_balancing`, `losses.router_mutual_information` and supervision teach.
- The variant "pilot" has fields that disagree about the same tokens.

Reference: Hallee et al. 2024, arXiv:2401.15713; the code of its revision (2025).

Deviations: packages that a third one suggests or recommends for papers that a third one
cites, sections of the archive for fields; a small encoder trained here, on descriptions
and their first sentences; as many pairs of each field in a batch; known pairs are no
negatives; vectors of length 1 with a temperature, and no head after the mean (both are
in the recipe); cosine decay, and the last step instead of the best on validation pairs.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp

from contrastive_jax import losses, parallel, randomness, similarity, training
from contrastive_jax.methods import moe
from contrastive_jax.tasks import text_encoders
from experiments.moe import data, measure, report
from experiments.moe import model as networks

METHODS = {
    "shared": {"experts.count": 1, "data.tags": False},
    "shared_tags": {"experts.count": 1},
    "moe": {"data.tags": False},
    "moe_tags": {},
    "top_k": {"experts.routing": "token_top_k"},
}


make_model = measure.make_model


def make_optimizer(config):
    """With warm-up and cosine decay."""
    return training.make_optimizer(**config.optim, num_steps=config.train.num_steps)


def init(config, dense=None):
    """The state at step 0, upcycled from a dense encoder: one given, or random."""
    first, second, third = jax.random.split(jax.random.key(config.seed), 3)
    if config.data.name == "pilot":
        start = make_model(config).init
        args = jnp.zeros((1, 2), jnp.int32), jnp.zeros(1, jnp.int32)
        where = jnp.ones((1, 2), bool)
        params = jax.jit(
            lambda: start(first, args[0], where=where, assignment=args[1])
        )()
        params = {"encoder": params["params"]}
    else:
        if dense is None:
            recipe = text_encoders.make_recipe(config.model)
            dense = text_encoders.init_params(recipe, first)["encoder"]
        count, mixed = config.experts.count, measure.mixed_layers(config)
        counts = [count if i in mixed else 1 for i in range(config.model.depth)]
        encoder = networks.upcycle(dense, second, config, counts)
        params = {"encoder": encoder}
    if config.pooler.head:
        params["pooler"] = networks.init_head(third, config.model.width)
    tx = make_optimizer(config)
    return training.TrainState(**training.init_fields(config.seed, params, tx))


def task_loss(config, z_a, z_b, apart, field):
    """The loss of the pairs of all devices."""
    own = config.loss
    where = apart | jnp.eye(len(z_a), dtype=bool)
    if own.negatives == "field":
        where = where & (field[:, None] == field[None, :])
    options = dict(temperature=own.temperature, where=where, normalize=own.normalize)
    if own.kind == "argmax":
        return moe.argmax_target_contrastive(z_a, z_b, **options)
    if own.kind == "soft":
        scale = 1 / own.temperature
        return moe.soft_target_contrastive(z_a, z_b, target_scale=scale, **options)
    if own.normalize:
        z_a, z_b = similarity.l2_normalize(z_a), similarity.l2_normalize(z_b)
    return losses.info_nce(similarity.dot(z_a, z_b) / own.temperature, where=where)


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; batch: see `data.batches`."""
    network, tx, fields = (
        make_model(config),
        make_optimizer(config),
        len(config.data.fields),
    )

    def step(state, batch):
        n = len(batch["field"])
        tokens, where = (
            jnp.concatenate([batch[f"{side}_{kind}"] for side in "ab"])
            for kind in ("tokens", "where")
        )
        keys = parallel.example_keys(state.rng, state.step, n, axis_name)
        keys = jnp.concatenate([randomness.fold_keys(keys, i) for i in range(2)])
        # Fields come in turn, so that each expert has as many texts.
        even = config.experts.count == fields and n % fields == 0

        def loss_fn(params):
            z, scores = measure.embed(
                config,
                network,
                params,
                tokens,
                where,
                jnp.tile(batch["field"], 2),
                capacity=2 * n // fields if even else None,
                keys=keys,
            )
            z_a, z_b, apart, field = parallel.all_gather(
                (z[:n], z[n:], batch["apart"], batch["field"]), axis_name
            )
            task = task_loss(config, z_a, z_b, apart, field)
            parts = {"task": task, "length": jnp.mean(jnp.linalg.norm(z_a, axis=1))}
            loss = task
            if scores:
                rows = parallel.all_gather(
                    (scores, where, jnp.tile(batch["field"], 2)), axis_name
                )
                own = measure.router_losses(config, *rows)
                loss += sum(config.loss[name] * x for name, x in own.items())
                parts |= own
            return loss, parts

        run = parallel.value_and_grad(loss_fn, axis_name, has_aux=True)
        (loss, parts), grads = run(state.params)
        state = training.apply_gradients(state, grads, tx)
        norm = training.global_norm(grads)
        return state, {"loss": loss, **parts, "grad_norm": norm}

    return step


batches = data.batches


def start(config, workdir):
    """Parameters of the dense encoder that all methods begin with; None if random.

    It is trained to tell which descriptions belong to which first sentences.
    """
    own = config.start
    if config.base.path:
        found = text_encoders.load_path(config.base.path, "float32", "float32")
        return found.params["encoder"]
    if not own.num_steps:
        return None
    changes = {
        **METHODS["shared"],
        "data.batch_size": own.batch_size,
        "loss.kind": "mnr",
        "loss.negatives": "all",
        "optim.learning_rate": own.learning_rate,
        "pooler.head": False,
        "train.num_steps": own.num_steps,
    }
    changed = training.changed(config, changes)
    print("start:", flush=True)
    state = training.train(
        changed, pathlib.Path(workdir) / "start", init, make_step, data.start_batches
    )
    return networks.dense(jax.device_get(state.params["encoder"]), config)


def specialists(config):
    """An encoder for each field alone."""
    own = config.specialists
    changes = {
        "experts.count": 1,
        "data.batch_size": own.batch_size,
        "train.num_steps": own.num_steps,
    }
    return {f"only {f}": changes | {"data.only": f} for f in config.data.fields}


def evals(config):
    """What is evaluated while a method is trained: the mean F1 of its fields."""

    def test(state):
        found = measure.evaluate(config, measure.make_encode(config, state))
        return {"f1": found["mean"]}

    return {"test": test}


def evaluate(config, trained, dense=None):
    """F1 at the best threshold of every method, by field, and what else is measured."""
    results = {}
    for name in config.eval.references:
        found = measure.evaluate(config, measure.REFERENCES[name](config))
        results |= {f"{name}/{key}": x for key, x in found.items()}
    untrained = training.changed(config, METHODS["shared"])
    encoders = {"untrained": measure.make_encode(untrained, init(untrained, dense))}
    alone = {k: v for k, v in trained.items() if k.startswith("only ")}
    if alone:
        encoders["specialists"] = measure.joined(
            config, [measure.make_encode(*both) for both in alone.values()]
        )
        first = next(iter(alone))
        encoders[first] = measure.make_encode(*alone[first])
    for name, both in trained.items():
        if name not in alone:
            encoders[name] = measure.make_encode(*both)
    for name in ("moe", "moe_tags"):
        if name in trained:
            encoders[f"{name}, wrong expert"] = measure.make_encode(
                *trained[name], shift=1
            )
    for name, encode in encoders.items():
        found = measure.evaluate(config, encode)
        results |= {f"{name}/{key}": x for key, x in found.items()}
    return results, encoders


def run(config, workdir):
    """The start, every method, evaluation and the report."""
    first = start(config, workdir)
    methods = specialists(config) if "specialists" in config.methods else {}
    methods |= {k: v for k, v in METHODS.items() if k in config.methods}
    trained = training.train_each(
        methods,
        config,
        workdir,
        functools.partial(init, dense=first),
        make_step,
        batches,
        evals=evals,
        eval_every=config.eval.every,
    )
    results, encoders = evaluate(config, trained, first)
    usage = measure.routes(*trained["top_k"]) if "top_k" in trained else None
    report.write(workdir, __doc__, config, results, encoders, usage)
    return results
