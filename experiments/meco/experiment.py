"""MECO: unnormalised models by compositional optimisation of their likelihood.

Special about it:
- log Z is the logarithm of an expectation over noise; a running estimate u of Z, kept
  in the log domain, stands in the gradient: `ebm.meco_update`, `ebm.meco`.
- `loss.gamma=1` turns the running estimate off (plug-in), `loss.estimator=storm` makes
  it variance-reduced. NCE (`ebm.binary_nce`) learns the constant instead.
- u is of the noise of all devices, the same on each: `parallel.log_mean_exp`.

Reference: Jiang et al. 2023, arXiv:2306.07485. No code and only the abstract could be
opened: the algorithm is derived from the objective (README).

Deviations: energies are relative to the noise, f = log q + g with the network g, for
all methods alike. Data sets, networks, noise and rates are ours.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from contrastive_jax import ebm, models, parallel, training
from contrastive_jax.evaluation import ood, quadrature, two_sample
from contrastive_jax.training import report
from experiments.meco import data, pictures

GAUSSIAN = {  # loss, learning rate, normalised gradient
    "MLE, GD 0.1": ("mle", 0.1, False),
    "NCE, GD 1.0": ("nce", 1.0, False),
    "NCE, NGD 0.1": ("nce", 0.1, True),
    "eNCE, NGD 0.1": ("ence", 0.1, True),
}
METHODS = {"meco": {}, "plug_in": {"gamma": 1.0}, "nce": {"objective": "nce"}}


@chex.dataclass(frozen=True)
class State(training.TrainState):
    """Besides parameters (the network's and NCE's constant) and optimiser.

    Attributes:
      inner: the running estimate of the normaliser.
      previous: parameters before the last step, for STORM; {} without it.
      starved: steps in a row with an effective sample size of the noise below 2.
    """

    inner: ebm.MecoState
    previous: chex.ArrayTree
    starved: Int[Array, ""]


def make_parts(config):
    """Network and optimiser."""
    net = models.Energy(tuple(config.model.channels), tuple(config.model.widths))
    tx = training.make_optimizer(**config.optim, num_steps=config.train.num_steps)
    return net, tx


def init(config):
    """The state at step 0."""
    net, tx = make_parts(config)
    x = jnp.zeros((1, *data.shape_of(config.data.name)))
    params = jax.jit(net.init)(jax.random.key(config.seed), x)["params"]
    params = {"net": params, "constant": jnp.zeros(())}
    return State(
        **training.init_fields(config.seed, params, tx),
        inner=ebm.meco_init(),
        previous=params if config.loss.estimator == "storm" else {},
        starved=jnp.zeros((), jnp.int32),
    )


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; batch: x, see `data.batches`."""
    net, tx = make_parts(config)
    noise = data.make_noise(config)
    storm = config.loss.estimator == "storm"

    def g(params, x):
        return net.apply({"params": params["net"]}, x)

    def step(state, batch):
        rows = len(batch["x"])
        keys = parallel.example_keys(state.rng, state.step, rows, axis_name)
        pairs = jax.vmap(jax.random.split, out_axes=1)(keys)
        x = data.to_points(batch["x"], config.data.name, pairs[0])
        z = noise.sample(pairs[1])
        nothing = jnp.zeros(rows)  # log q: g is relative to it

        def likelihood(params):
            g_noise = g(params, z)
            before = None
            if storm:
                before = parallel.log_mean_exp(g(state.previous, z), axis_name)
            inner = ebm.meco_update(
                state.inner,
                parallel.log_mean_exp(g_noise, axis_name),
                gamma=config.loss.gamma,
                log_mean_prev=before,
            )
            loss = ebm.meco(
                g(params, x),
                g_noise,
                log_q_noise=nothing,
                log_u=inner.log_u,
                max_weight=config.loss.max_weight,
            )
            return loss, (g_noise, inner)

        def nce(params):
            log_ratio = [g(params, y) - params["constant"] for y in (x, z)]
            loss = ebm.binary_nce(log_ratio[0], log_ratio[1][:, None])
            return loss, (log_ratio[1], state.inner)

        def loss_fn(params):
            chosen = nce if config.loss.objective == "nce" else likelihood
            loss, (log_w, inner) = chosen(params)
            size = ebm.effective_sample_size(parallel.gather(log_w, axis_name))
            return loss, (size, inner)

        (loss, (size, inner)), grads = parallel.value_and_grad(
            loss_fn, axis_name, has_aux=True
        )(state.params)
        starved = jnp.where(size < 2, state.starved + 1, 0)
        new = training.apply_gradients(state, grads, tx)
        previous = state.params if storm else {}
        metrics = {
            "loss": loss,
            "log_u": inner.log_u,
            "effective_sample_size": size,
            "starved": starved.astype(jnp.float32),
            "grad_norm": training.global_norm(grads),
        }
        return new.replace(inner=inner, previous=previous, starved=starved), metrics

    return step


batches = data.batches


def make_energy(config, state):
    """The learned f = log q + g as a function of points, and g alone."""
    net, _ = make_parts(config)
    params, noise = jax.device_get(state.params), data.make_noise(config)

    def g(x):
        return net.apply({"params": params["net"]}, x)

    return jax.jit(lambda x: noise.log_density(x) + g(x)), jax.jit(g)


def log_normaliser(config, f, g):
    """log Z: by quadrature in the plane, else by a large sample of the noise (and its
    effective sample size)."""
    if len(data.shape_of(config.data.name)) == 1:
        x, cell = quadrature.square_grid(config.eval.grid, data.HALF_WIDTH)
        log_f = jnp.concatenate([f(part) for part in jnp.array_split(x, 10)])
        return float(jax.nn.logsumexp(log_f) + np.log(cell)), np.nan
    keys = jax.random.split(jax.random.key(1), config.eval.samples)
    draw = jax.jit(data.make_noise(config).sample)
    log_w = jnp.concatenate([g(draw(part)) for part in jnp.array_split(keys, 10)])
    size = float(ebm.effective_sample_size(log_w))
    return float(ebm.importance_log_mean(log_w)), size


def generate(config, f, num):
    """Langevin chains on f from samples of the noise, and their diagnostics."""
    keys = jax.random.split(jax.random.key(2), config.eval.generated)[:num]
    start = ebm.langevin_init(data.make_noise(config).sample(keys))
    run = functools.partial(
        ebm.langevin,
        log_density=f,
        num_steps=config.eval.langevin_steps,
        step_size=config.eval.langevin_step_size,
        adjusted=True,
    )
    chains, info = jax.jit(run)(keys, start)
    return chains.x, info


def evaluate(config, state):
    """Test NLL (nats), and for images AUROC per outside set and two-sample accuracy."""
    name = config.data.name
    split = data.load(name, config.eval.held_out, config.data.data_dir)
    (f, g), rows = make_energy(config, state), len(split.test)
    test = data.to_points(
        jnp.asarray(split.test), name, jax.random.split(jax.random.key(3), rows)
    )
    log_z, size = log_normaliser(config, f, g)
    found = {"nll": log_z - float(jnp.mean(f(test)))}
    if not split.outside:
        return found
    found["normaliser_sample_size"] = size
    inside = np.asarray(f(data.to_points(jnp.asarray(split.test), name, None)))
    for outside, x in split.outside.items():
        scores = np.asarray(f(data.to_points(jnp.asarray(x), name, None)))
        found[f"auroc_{outside}"] = 100 * ood.auroc(inside, scores)
    made, info = generate(config, f, config.eval.generated)
    rows = [np.asarray(x).reshape(len(x), -1) for x in (test, made)]
    found["two_sample"] = 100 * two_sample.nearest_neighbour_accuracy(*rows)
    found["accepted"] = 100 * float(jnp.mean(info.accepted))
    return found


def choose(config, name, method):
    """The config of one fit: a set, a method and its learning rate."""
    chosen = config.copy_and_resolve_references()
    chosen.data.name = name
    chosen.loss.update(METHODS[method])
    chosen.optim.learning_rate = config.methods[method]
    return chosen


def run(config, workdir):
    """The 1-D problem, then every method on every set, then the report."""
    page = report.Report("MECO", __doc__.partition("\n")[0])
    results = {}
    if config.gaussian.means:
        results = pictures.gaussian_part(page, config, GAUSSIAN)
    for name in config.data.sets:
        fitted = {"noise": (choose(config, name, "meco"), None)}
        for method in config.methods:
            chosen = choose(config, name, method)
            step = parallel.data_parallel(
                functools.partial(make_step, chosen),
                config.mapper,
                devices=config.devices,
            )
            source = functools.partial(batches, chosen)
            place = f"{workdir}/{name}/{method}"
            state = training.fit(
                step, init(chosen), source, **config.train, workdir=place
            )
            fitted[method] = (chosen, state)
        for method, (chosen, state) in fitted.items():
            state = init(chosen) if state is None else state  # g = 0: the noise itself
            found = evaluate(chosen, state)
            results |= {f"{name}/{method}/{key}": x for key, x in found.items()}
            fitted[method] = (chosen, *make_energy(chosen, state))
        pictures.set_part(
            page, name, fitted, results, workdir, generate, log_normaliser
        )
    page.section("Configuration")
    page.code(str(config))
    page.write(workdir)
    return results
