"""Names of MECO's reference values, in terms of the library."""

import jax
import jax.numpy as jnp

from contrastive_jax import ebm, states
from contrastive_jax.methods import meco
from experiments.meco import model


def nce_loss(inputs, args):
    """Any ratio of noise to data: noise told from data is data told from noise."""
    data = inputs["log_p_data"] - inputs["log_q_data"]
    noise = inputs["log_p_noise"] - inputs["log_q_noise"]
    return {"loss": model.unpaired_nce(data, noise, nu=float(args["nu"]))}


def ence_loss(inputs, args):
    return {"loss": ebm.exponential_nce(**inputs)}


def mle_importance_loss(inputs, args):
    return {"loss": ebm.importance_nll(**inputs)}


def meco_trajectory(inputs, args):
    """The estimator as gradient of a loss, its moving average, the step."""

    def f(theta, x):
        return theta * x - x**2 / 2

    theta = jnp.asarray(float(args["theta0"]))
    inner, velocity, previous = meco.meco_init(), None, theta
    found = {"theta": [], "u": [], "v": []}
    for x, z in zip(inputs["x_data"], inputs["x_noise"], strict=True):
        log_q = jax.scipy.stats.norm.logpdf(z, args["noise_mean"], args["noise_std"])
        storm = args["estimator"] == "storm"
        inner = meco.meco_update(
            inner,
            ebm.importance_log_mean(f(theta, z) - log_q),
            gamma=float(args["gamma"]),
            log_mean_prev=(
                ebm.importance_log_mean(f(previous, z) - log_q) if storm else None
            ),
        )
        gradient = jax.grad(
            lambda t, x=x, z=z, log_q=log_q, log_u=inner.log_u: meco.meco(
                f(t, x), f(t, z), log_q_noise=log_q, log_u=log_u
            )
        )(theta)
        velocity = (
            gradient
            if velocity is None
            else states.ema_update(velocity, gradient, decay=1 - float(args["beta"]))
        )
        previous, theta = theta, theta - args["lr"] * velocity
        for name, value in (("theta", theta), ("u", inner.log_u), ("v", velocity)):
            found[name].append(value)
    found = {name: jnp.stack(values) for name, values in found.items()}
    return {**found, "u": jnp.exp(found["u"])}


def gaussian_1d_population(inputs, args):
    problem = dict(
        data_mean=float(args["data_mean"]), noise_mean=float(args["noise_mean"])
    )
    out = {}
    for name in ("nce", "ence", "mle"):
        # A normalised model: the constant follows from the mean.
        def loss(theta, name=name):
            return model.population_loss(name, model.normalized(theta), **problem)

        value, grad = jax.value_and_grad(loss)(inputs["theta"])
        out |= {f"{name}_loss": value, f"{name}_grad": grad}
    return {**out, "mle_excess_loss": out["mle_loss"]}


ADAPTERS = {
    "nce_loss": nce_loss,
    "ence_loss": ence_loss,
    "mle_importance_loss": mle_importance_loss,
    "meco_trajectory": meco_trajectory,
    "gaussian_1d_population": gaussian_1d_population,
}
