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
from contrastive_jax.methods import ape
from contrastive_jax.report import Report
from contrastive_jax.training import metrics
from experiments.ape import data as logs
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


def make_noise(config):
    """Counts of the entities, as what noise is drawn and scored by."""
    for key, known in CHOICES.items():
        section, leaf = key.split(".")
        if (value := config[section][leaf]) not in known:
            raise ValueError(f"{key}: expected {' or '.join(known)}, got {value!r}")
    return ape.event_noise(
        logs.load(config).counts,
        sample_power=config.loss.sample_power,
        score_power=config.loss.score_power,
    )


def make_optimizer(config):
    """With cosine decay."""
    return training.make_optimizer(**config.optim, num_steps=config.train.num_steps)


def init(config):
    """The state at step 0: small random embeddings, weights of 1, constant 0."""
    noise, tx = make_noise(config), make_optimizer(config)
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
    noise, tx = make_noise(config), make_optimizer(config)
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
        {"event": logs.load(config).train},
        batch_size=config.data.batch_size,
        seed=config.seed,
        start_step=start_step,
    )


def make_scorer(config, state):
    """`score(event)` for single events by name, see `report.make_scorer`."""
    offsets, params = make_noise(config).offsets, jax.device_get(state.params)
    return report.make_scorer(
        logs.load(config), lambda x, where: log_prob(params, x, offsets, where)
    )


def scores(config, state, by_change):
    """Anomaly scores of a trained model, by number of changed entities."""
    offsets, params = make_noise(config).offsets, jax.device_get(state.params)
    score = jax.jit(lambda x: -log_prob(params, x, offsets, where=x >= 0))
    return {c: np.asarray(score(x)) for c, x in by_change.items()}


def evaluate(config, state):
    """ROC area and average precision (%) of a model on the first set of the config.

    `unseen_auc`: how well events with unseen entities are told from other usual ones.
    """
    found, usual = logs.load(config), logs.usual_and_anomalous(config)
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
        of_set = training.changed(config, {"data.sets": (name,)})
        place = f"{workdir}/{name}"
        trained = training.train_each(METHODS, of_set, place, init, make_step, batches)
        rows, twins = logs.load(of_set), logs.usual_and_anomalous(of_set)
        all_scores = {m: scores(*pair, twins) for m, pair in trained.items()}
        simple = measure.baseline_scores(
            rows.train,
            twins,
            rows.sizes,
            seed=config.seed,
            num_trees=config.eval.num_trees,
        )
        measured = {m: evaluate(*pair) for m, pair in trained.items()}
        measured |= {m: measure.detection(x) for m, x in simple.items()}
        results |= {
            f"{name}/{m}/{key}": x
            for m, row in measured.items()
            for key, x in row.items()
        }
        own, state = trained["ape"]
        params = jax.device_get(state.params)
        weights[name] = (rows.types, params["pair_weights"])
        report.add_set(
            page,
            name,
            rows,
            scores=all_scores | simple,
            embeddings=params["embeddings"],
            usual=twins[0],
            score=make_scorer(own, state),
            seed=config.seed,
        )
        page.training({m: metrics.read(f"{place}/{m}") for m in trained})
    page.section("Learned weights of the pairs of types")
    page.figure(report.pair_map(weights), "weights of the pairs of types")
    page.config(training.config_text(config))
    page.write(workdir)
    return results
