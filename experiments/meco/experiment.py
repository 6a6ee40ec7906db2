"""MECO: unnormalised models by compositional optimisation of their likelihood.

Special about it:
- log Z is the logarithm of an expectation over noise; a running estimate u of Z, kept
  in the log domain, stands in the gradient: `meco.meco_update`, `meco.meco`.
- `loss.gamma=1` turns the running estimate off (plug-in), `loss.estimator=storm` makes
  it variance-reduced. NCE (`ebm.binary_nce`) learns the constant instead.
- u is of the noise of all devices, the same on each: `parallel.log_mean_exp`.

Reference: Jiang et al. 2023, arXiv:2306.07485. No code and only the abstract could be
opened: the algorithm is derived from the objective (README).

Deviations: on images the network is relative to the noise, g = f - log q, for all
methods alike (`model.relative`). Data sets, networks, noise and rates are ours.
"""

import functools

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from contrastive_jax import ebm, parallel, training
from contrastive_jax.methods import meco
from contrastive_jax.report import Report
from experiments.meco import data, measure, report
from experiments.meco.model import Energy

METHODS = {
    "noise": {},
    "meco": {},
    "plug_in": {"gamma": 1.0},
    "nce": {"objective": "nce"},
}


@chex.dataclass(frozen=True)
class State(training.TrainState):
    """Besides parameters (the network's and NCE's constant) and optimiser.

    Attributes:
      inner: the running estimate of the normaliser.
      previous: parameters before the last step, for STORM; {} without it.
      starved: steps in a row with an effective sample size of the noise below 2.
    """

    inner: meco.MecoState
    previous: chex.ArrayTree
    starved: Int[Array, ""]


def make_model(config, axis_name=None):
    """The network of the energy."""
    return Energy(tuple(config.model.channels), tuple(config.model.widths))


def make_optimizer(config):
    """With warm-up and cosine decay."""
    return training.make_optimizer(**config.optim, num_steps=config.train.num_steps)


def init(config):
    """The state at step 0."""
    net, tx = make_model(config), make_optimizer(config)
    x = jnp.zeros((1, *data.shape_of(config.data.name)))
    params = jax.jit(net.init)(jax.random.key(config.seed), x)["params"]
    params = {"net": params, "constant": jnp.zeros(())}
    return State(
        **training.init_fields(config.seed, params, tx),
        inner=meco.meco_init(),
        previous=params if config.loss.estimator == "storm" else {},
        starved=jnp.zeros((), jnp.int32),
    )


def make_log_ratio(config):
    """`g(params, x)`, the log-density of the model (up to its constant) less log q.

    The network is g itself on the sets in `model.relative`, else the log-density.
    """
    net, noise = make_model(config), data.make_noise(config)
    relative = config.data.name in config.model.relative

    def g(params, x):
        y = net.apply({"params": params["net"]}, x)
        return y if relative else y - noise.log_density(x)

    return g


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; batch: x, see `data.batches`."""
    tx, g = make_optimizer(config), make_log_ratio(config)
    noise = data.make_noise(config)
    storm = config.loss.estimator == "storm"

    def step(state, batch):
        rows = len(batch["x"])
        keys = parallel.example_keys(state.rng, state.step, rows, axis_name)
        pairs = jax.vmap(jax.random.split, out_axes=1)(keys)
        x = data.to_points(batch["x"], config.data.name, pairs[0])
        z = noise.sample(pairs[1])

        def likelihood(params):
            g_noise = g(params, z)
            every = parallel.all_gather(g_noise, axis_name)
            before = None
            if storm:
                before = parallel.log_mean_exp(g(state.previous, z), axis_name)
            inner = meco.meco_update(
                state.inner,
                parallel.log_mean_exp(g_noise, axis_name),
                gamma=config.loss.gamma,
                log_mean_prev=before,
            )
            loss = meco.meco(
                g(params, x),
                every,
                log_q_noise=jnp.zeros_like(every),  # g is relative to it
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
            size = ebm.effective_sample_size(parallel.all_gather(log_w, axis_name))
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
    params, noise = jax.device_get(state.params), data.make_noise(config)
    g = functools.partial(make_log_ratio(config), params)
    return jax.jit(lambda x: noise.log_density(x) + g(x)), jax.jit(g)


def evaluate(config, state):
    """Test NLL (nats), and for images AUROC per outside set and two-sample accuracy."""
    return measure.evaluate(config, *make_energy(config, state))


def rates(config, name):
    """Learning rates of the methods that are compared on a set."""
    plane = len(data.shape_of(name)) == 1
    return config.methods if plane else config.image_methods


def choose(config, name, method):
    """The config of one fit: a set, a method, its learning rate and steps."""
    chosen = config.copy_and_resolve_references()
    chosen.data.name = name
    chosen.loss.update(METHODS[method])
    if len(data.shape_of(name)) > 1:
        chosen.train.num_steps = config.image_steps
    if method == "noise":  # alone, without a network
        chosen.model.relative = (name,)
    else:
        chosen.optim.learning_rate = rates(config, name)[method]
    return chosen


def run(config, workdir):
    """The 1-D problem, then every method on every set, then the report."""
    page = Report("MECO", __doc__.partition("\n")[0])
    results = {}
    if config.gaussian.means:
        results = report.gaussian_part(page, config)
    for name in config.data.sets:
        fitted = {"noise": (choose(config, name, "noise"), None)}
        for method in rates(config, name):
            chosen = choose(config, name, method)
            place = f"{workdir}/{name}/{method}"
            state = training.train(chosen, place, init, make_step, batches)
            fitted[method] = (chosen, state)
        for method, (chosen, state) in fitted.items():
            state = init(chosen) if state is None else state  # g = 0: the noise itself
            measures = evaluate(chosen, state)
            results |= {f"{name}/{method}/{key}": x for key, x in measures.items()}
            fitted[method] = (chosen, *make_energy(chosen, state))
        report.set_part(page, name, fitted, results, workdir)
    page.config(training.config_text(config))
    page.write(workdir)
    return results
