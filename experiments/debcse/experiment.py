"""DebCSE: positives with the same meaning and other words, drawn from a corpus.

Special about it:
- A frozen reference (mean vectors of tokens) finds candidates; `debcse.ipw_log_probs`
  weighs their meaning against the chance that looks alone would pick them, and
  `debcse.gumbel_top_k` draws on the device, with a key per text.
- `debcse.debcse` is the loss of what was drawn; `debcse.candidate_masks` leaves out
  copies of a text. With `loss.mode` "weight" all candidates count by their weights.
- Baselines: dropout positives (SimCSE), the same with debiased InfoNCE, and neighbors
  drawn by meaning alone: `loss.positives` "semantic", the ablation.

Reference: Miao et al. 2023, arXiv:2309.07396. Only its abstract was at hand, there is
no code: the equations are the reconstruction of `methods.debcse`.

Deviations: a small encoder from vectors of co-occurring tokens on definitions of
WordNet; mean pooling and no layer that is there in training only; the last step, not
the best on validation pairs.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax import ebm, losses, parallel, randomness, similarity, training
from contrastive_jax.methods import debcse
from contrastive_jax.tasks import text_encoders
from experiments.debcse import data, measure, model, report

DROPOUT = {"loss.positives": "dropout", "loss.negatives": "none"}
METHODS = {
    "simcse": DROPOUT,
    "debiased": DROPOUT | {"loss.debiased": True},
    "neighbors": {"loss.positives": "semantic", "loss.negatives": "none"},
    "ipw_positives": {"loss.negatives": "none"},
    "ipw_weighted": {"loss.negatives": "none", "loss.mode": "weight"},
    "debcse": {},
}


def make_model(config, axis_name=None):
    """A bag of tokens, or a transformer."""
    return model.make_model(config.model)


def make_optimizer(config):
    """With warm-up and cosine decay."""
    return training.make_optimizer(**config.optim, num_steps=config.train.num_steps)


def init(config, start=None):
    """The state at step 0, from random parameters or given ones."""
    tokens, rng = jnp.zeros((1, 2), jnp.int32), jax.random.key(config.seed)
    if start is None:
        encoder = make_model(config)
        run = jax.jit(lambda rng: encoder.init(rng, tokens, where=tokens == 0))
        start = {"encoder": run(rng)["params"]}
    start = jax.tree.map(jnp.array, start)  # a copy, for a step consumes its state
    fields = training.init_fields(config.seed, start, make_optimizer(config))
    return training.TrainState(**fields)


def start_params(config):
    """Parameters all methods start from: those on disk, or the reference's vectors."""
    if config.model.path:
        return {"encoder": text_encoders.load(config.model).params["encoder"]}
    if not config.start.scale or config.reference.path:
        return None  # random ones
    table, size = data.prepared(config).table, config.model.width
    if (got := config.reference.width) != size:
        raise ValueError(f"reference.width: expected {size} (model.width), got {got}")
    params = jax.device_get(init(config).params)
    table = (config.start.scale * table).astype(np.float32)
    params["encoder"]["token"]["embedding"] = table
    return params


def log_probs(config, role, semantic, surface, where):
    """Log-probabilities of the candidates of a role ("positives", "negatives")."""
    own, kind = config.sampler[role], config.loss[role]
    if kind == "even":
        semantic, surface = jnp.zeros_like(semantic), jnp.zeros_like(surface)
    elif kind == "semantic":
        surface = jnp.zeros_like(surface)
    elif kind != "ipw":
        raise ValueError(f"loss.{role}: expected ipw, semantic or even, got {kind!r}")
    return debcse.ipw_log_probs(
        semantic,
        surface,
        semantic_temperature=own.semantic_temperature,
        surface_temperature=own.surface_temperature,
        clip=own.clip,
        semantic_max=own.semantic_max,
        role=role[:-1],
        where=where,
    )


def draw(config, role, batch, keys):
    """Texts of a role for every anchor, and how they were drawn.

    Returns:
      tokens, where [n, k, t], row, drawn, probs [n, k]; with `loss.mode` "weight" those
      of all positives. And metrics: effective sample size, means of what was drawn.
    """
    if role not in data.drawn_roles(config):  # the text itself, or nothing
        count = int(config.loss[role] == "dropout")
        texts = {k: batch[k][:, None][:, :count] for k in ("tokens", "where", "row")}
        ones = jnp.ones_like(texts["row"])
        return texts | {"drawn": ones > 0, "probs": ones.astype(jnp.float32)}, {}
    own = {k[len(role) + 1 :]: x for k, x in batch.items() if k.startswith(role)}
    semantic, surface, rows = own["semantic"], own["surface"], own["row"]
    logs = log_probs(config, role, semantic, surface, rows >= 0)
    if config.loss.mode == "weight" and role == "positives":
        columns = jnp.broadcast_to(jnp.arange(rows.shape[1])[None, :], rows.shape)
        drawn = rows >= 0
    else:
        noise = randomness.gumbel(keys, logs.shape)
        columns, drawn = debcse.gumbel_top_k(logs, noise, k=config.sampler[role].count)
    take = functools.partial(jnp.take_along_axis, indices=columns, axis=1)
    info = {
        f"{role}_sample_size": jnp.mean(ebm.effective_sample_size(logs)),
        f"{role}_semantic": jnp.mean(take(semantic)),
        f"{role}_surface": jnp.mean(take(surface)),
    }
    texts = {
        name: jnp.take_along_axis(own[name], columns[..., None], axis=1)
        for name in ("tokens", "where")
    }
    return texts | dict(row=take(rows), drawn=drawn, probs=jnp.exp(take(logs))), info


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; batch: see `data.batches`."""
    tx, own = make_optimizer(config), config.loss
    if own.mode not in ("sample", "weight"):
        raise ValueError(f"loss.mode: expected sample or weight, got {own.mode!r}")

    def step(state, batch):
        n = len(batch["tokens"])
        keys = parallel.example_keys(state.rng, state.step, n, axis_name)
        pos, info = draw(config, "positives", batch, randomness.fold_keys(keys, 0))
        neg, more = draw(config, "negatives", batch, randomness.fold_keys(keys, 1))
        k, labels = pos["row"].shape[1], parallel.global_rows(n, axis_name)
        sides = [{name: x[name] for name in ("row", "drawn")} for x in (pos, neg)]
        every_pos, every_neg = parallel.all_gather(sides, axis_name)
        where, there = debcse.candidate_masks(
            batch["row"], pos["row"], every_pos["row"], every_neg["row"], labels
        )
        where = where & every_pos["drawn"].T[None]
        there = there & every_neg["drawn"].reshape(1, -1)
        tokens, real = (
            jnp.concatenate([batch[name][:, None], pos[name], neg[name]], axis=1)
            for name in ("tokens", "where")
        )
        slots, length = tokens.shape[1:]
        split = jax.vmap(lambda key: jax.random.split(key, slots))
        fresh = split(randomness.fold_keys(keys, 2)).reshape(-1)

        def loss_fn(params):
            flat, mask = (x.reshape(-1, length) for x in (tokens, real))
            z = model.embed(config.model, params, flat, mask, fresh)
            z = z.reshape(n, slots, -1)
            every = parallel.all_gather(z[:, 1:], axis_name)
            by_slot = jax.vmap(similarity.cosine, (None, 1), 1)  # [n, slots, m]
            cosines = by_slot(z[:, 0], every) / own.temperature
            if own.debiased:
                return losses.debiased_info_nce(
                    cosines[:, 0],
                    labels,
                    class_prior=own.class_prior,
                    temperature=own.temperature,
                )
            return debcse.debcse(
                cosines[:, :k],
                cosines[:, k:].swapaxes(1, 2).reshape(n, -1),
                labels,
                where=where,
                negative_where=there,
                pair_weights=pos["probs"] if own.mode == "weight" else None,
            )

        loss, grads = parallel.value_and_grad(loss_fn, axis_name)(state.params)
        state = training.apply_gradients(state, grads, tx)
        info = parallel.pmean(info | more, axis_name)
        return state, {"loss": loss, "grad_norm": training.global_norm(grads), **info}

    return step


batches = data.batches


def evals(config):
    """While it trains: validation pairs, by `measure.pairs`."""
    pairs = data.prepared(config).validation
    if pairs is None:
        return {}
    encode = measure.encoder(functools.partial(model.embed, config.model))
    return {"validation": lambda state: measure.pairs(encode, state.params, pairs)}


def chances(config):
    """{role: probabilities [n, c]} of what is drawn for texts to train on."""
    own = data.prepared(config).candidates
    return {
        role: measure.chances(own[role], functools.partial(log_probs, config, role))
        for role in data.drawn_roles(config)
    }


def evaluate(config, trained):
    """{"method/measure": value}, in percent but for correlations of the bias probes."""
    own, results = data.prepared(config), {}
    pairs = own.validation if config.eval.split == "validation" else own.test
    for name, (section, state) in trained.items():
        encode = measure.encoder(functools.partial(model.embed, section.model))
        params, values = jax.device_get(state.params), {}
        if pairs is not None:
            values |= measure.pairs(encode, params, pairs)
        rows = functools.partial(data.as_rows, own.tokenizer, length=config.data.length)
        values |= measure.judged(encode, params, rows, config)
        for role, probs in chances(section).items():
            values |= measure.drawn(own, role, probs)
        results |= {f"{name}/{key}": value for key, value in values.items()}
    return results


def run(config, workdir):
    """Trains every method from one start, evaluates all and writes the report."""
    begin = functools.partial(init, start=start_params(config))
    methods = {name: METHODS[name] for name in config.methods}
    trained = training.train_each(
        methods,
        config,
        workdir,
        begin,
        make_step,
        batches,
        evals=evals,
        eval_every=config.eval.every,
    )
    results, own = evaluate(config, trained), data.prepared(config)
    drawn = {
        name: chances(section).get("positives")
        for name, (section, _) in trained.items()
    }
    report.write(workdir, __doc__, config, results, drawn, own)
    return results
