"""APE: anomalies among categorical events by embeddings of entities.

Special about it:
- An event is as likely as its pairs of entities are close, each pair of types with a
  weight of its own (eq. 2, 3): `ape.ape_score`; after each step weights are cut at 0.
- Noise keeps an event and redraws one entity (section 3.2), in constant time on device:
  `ape.event_noise`, `ape.sample_context_noise`; the loss is `ebm.binary_nce`.
- `make_scorer` scores single events by name, with entities never seen before.

Reference: Chen et al. 2016, arXiv:1608.07502; a Keras version by its first author.

Deviations: the loss has log(k q) where the code has log(10 q) (the learned constant
takes up the difference); the learning rate decays by a cosine; only seeds, not the 1e-4
noise of the code, break ties. As in the code, noise is drawn by counts^0.75 and scored
by counts. The authors' data are not public; the default runs on two public sets.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax import data, ebm, parallel, training
from contrastive_jax.data import events
from contrastive_jax.methods import ape
from contrastive_jax.report import Report, plots
from contrastive_jax.training import metrics
from experiments.ape import measure, report

TYPE_STREAM = 2**31 - 1  # apart from the rows that `example_keys` folds in
CHOICES = {
    "model.pair_weights": ("learned", "fixed"),
    "loss.noise": ("context", "independent"),
    "eval.split": ("validation", "test"),
}
METHODS = {
    "ape": {},
    "fixed_weights": {"model.pair_weights": "fixed"},
    "independent_noise": {"loss.noise": "independent"},
}


def load(config):
    """The first of the sets that the config names; all of them have to be there."""
    d = config.data
    first, *_ = [
        events.load(name, d.data_dir, d.train_share, d.test_share) for name in d.sets
    ]
    return first


def make_parts(config):
    """Noise and optimiser."""
    for key, known in CHOICES.items():
        section, leaf = key.split(".")
        if (value := config[section][leaf]) not in known:
            raise ValueError(f"{key}: expected {' or '.join(known)}, got {value!r}")
    noise = ape.event_noise(
        load(config).counts,
        sample_power=config.loss.sample_power,
        score_power=config.loss.score_power,
    )
    tx = training.make_optimizer(**config.optim, num_steps=config.train.num_steps)
    return noise, tx


def init(config):
    """The state at step 0: small random embeddings, weights of 1, constant 0."""
    noise, tx = make_parts(config)
    m, scale = len(noise.sizes), config.model.init_scale
    shape = (len(noise.keep), config.model.dim)
    key = jax.random.key(config.seed)
    params = {
        "embeddings": jax.random.uniform(key, shape, minval=-scale, maxval=scale),
        "bias": jnp.zeros(()),
    }
    if config.model.pair_weights == "learned":
        params["pair_weights"] = jnp.ones(m * (m - 1) // 2)
    return training.TrainState(**training.init_fields(config.seed, params, tx))


def log_prob(params, x, offsets, where=None):
    """Unnormalised log-probability of events."""
    return ape.ape_score(
        x,
        params["embeddings"],
        params.get("pair_weights"),
        offsets=offsets,
        bias=params["bias"],
        where=where,
    )


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; batch: event [n, m] int32."""
    noise, tx = make_parts(config)
    context, k = config.loss.noise == "context", config.loss.num_negatives

    def step(state, batch):
        real = batch["event"]
        keys = parallel.example_keys(state.rng, state.step, len(real), axis_name)
        replaced = None  # all types
        if context:
            key = jax.random.fold_in(state.rng, state.step)
            key = jax.random.fold_in(key, TYPE_STREAM)
            replaced = jax.random.randint(key, (), 0, real.shape[1])
            drawn = ape.sample_context_noise(keys, replaced, noise, num_negatives=k)
            negatives = ape.apply_replacement(real, replaced, drawn)
        else:
            negatives = ape.sample_independent_noise(keys, noise, num_negatives=k)
        log_noise = functools.partial(
            ape.event_log_noise,
            type_index=replaced,
            log_probs=noise.log_probs,
            offsets=noise.offsets,
        )

        def loss_fn(params):
            positive, negative = (
                log_prob(params, x, noise.offsets) for x in (real, negatives)
            )
            loss = ebm.binary_nce(
                positive,
                negative,
                positive_log_noise=log_noise(real),
                negative_log_noise=log_noise(negatives),
            )
            return loss, jnp.mean(positive) - jnp.mean(negative)

        (loss, gap), grads = parallel.value_and_grad(loss_fn, axis_name, has_aux=True)(
            state.params
        )
        state = training.apply_gradients(state, grads, tx)
        params = dict(state.params)
        if "pair_weights" in params:
            params["pair_weights"] = jnp.maximum(params["pair_weights"], 0)
        found = {"loss": loss, "gap": gap, "grad_norm": training.global_norm(grads)}
        return state.replace(params=params), found

    return step


def batches(config, start_step):
    """Batches of event [n, m] int32; batch t depends on (seed, t) only."""
    return data.epoch_batches(
        {"event": load(config).train},
        batch_size=config.data.batch_size,
        seed=config.seed,
        start_step=start_step,
    )


def make_scorer(config, state):
    """`score(event)` for single events by name, see `report.make_scorer`."""
    offsets, params = make_parts(config)[0].offsets, jax.device_get(state.params)
    return report.make_scorer(
        load(config), lambda x, where: log_prob(params, x, offsets, where)
    )


def usual_and_anomalous(config):
    """Usual events (key 0) and anomalous twins by number of changed entities."""
    found = load(config)
    usual = events.known_only(getattr(found, config.eval.split))
    if not len(usual):
        raise data.DataMissing(
            f"{config.data.sets[0]}: every event of its {config.eval.split} part has "
            "an entity that its training part lacks; nothing to measure"
        )
    return measure.anomalous_twins(
        usual, found.sizes, seed=config.seed, limit=config.eval.num_events
    )


def scores(config, state, by_change):
    """Anomaly scores of a trained model, by number of changed entities."""
    offsets, params = make_parts(config)[0].offsets, jax.device_get(state.params)
    score = jax.jit(lambda x: -log_prob(params, x, offsets, where=x >= 0))
    return {c: np.asarray(score(x)) for c, x in by_change.items()}


def evaluate(config, state):
    """ROC area and average precision (%) of a model on the first set of the config.

    `unseen_auc`: how well events with unseen entities are told from other usual ones.
    """
    found, usual = load(config), usual_and_anomalous(config)
    results = measure.detection(scores(config, state, usual))
    later = getattr(found, config.eval.split)
    if len(unseen := later[(later < 0).any(axis=1)]):
        pair = scores(config, state, {0: usual[0], 1: unseen})
        results["unseen_auc"] = measure.detection(pair)["auc_1"]
    return results


def run(config, workdir):
    """Trains every method on every set, beside simple baselines; writes the report."""
    page = Report("APE", __doc__.partition("\n")[0])
    results, weights = {}, {}
    for name in config.data.sets:
        of_set = config.copy_and_resolve_references()
        of_set.data.sets = (name,)
        found, twins = load(of_set), usual_and_anomalous(of_set)
        place = f"{workdir}/{name}"
        all_scores, states = {}, {}
        for method, changes in METHODS.items():
            c = of_set.copy_and_resolve_references()
            c.update_from_flattened_dict(changes)
            make = functools.partial(make_step, c)
            step = parallel.data_parallel(make, c.mapper, devices=c.devices)
            source = functools.partial(batches, c)
            states[method] = training.fit(
                step, init(c), source, **c.train, workdir=f"{place}/{method}"
            )
            all_scores[method] = scores(c, states[method], twins)
            measured = evaluate(c, states[method])
            results |= {f"{name}/{method}/{key}": v for key, v in measured.items()}
        trees = config.eval.num_trees
        simple = measure.baseline_scores(
            found.train, twins, found.sizes, seed=config.seed, num_trees=trees
        )
        for method, x in simple.items():
            measured = measure.detection(x)
            results |= {f"{name}/{method}/{key}": v for key, v in measured.items()}
        params = jax.device_get(states["ape"].params)
        weights[name] = (found.types, params["pair_weights"])
        report.add_set(
            page,
            name,
            found,
            scores=all_scores | simple,
            embeddings=params["embeddings"],
            usual=twins[0],
            score=make_scorer(of_set, states["ape"]),
            seed=config.seed,
        )
        lines = metrics.read(f"{place}/ape")
        page.figure(plots.curves(lines, ("loss", "gap", "grad_norm")), "curves")
    page.section("Learned weights of the pairs of types")
    page.figure(report.pair_map(weights), "weights of the pairs of types")
    page.code(training.config_text(config))
    page.write(workdir)
    return results
