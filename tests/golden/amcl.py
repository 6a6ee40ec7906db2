"""Names of AMCL's reference values, in terms of the library."""

import jax
import jax.numpy as jnp

from contrastive_jax import similarity
from contrastive_jax.methods import amcl


def temperature_regulariser(inputs, args):
    value = amcl.temperature_regularizer(
        inputs["temperature"], feature_dim=float(args["feature_dim"])
    )
    return {"value": value, "loss": jnp.sum(value)}


def pair_temperature_concat_mlp(inputs, args):
    """Weights are (out, in) there."""
    params = dict(
        hidden_kernel=inputs["W1"].T,
        hidden_bias=inputs["b1"],
        kernel=inputs["W2"][0],
        bias=inputs["b2"][0],
    )
    bounds = dict(lower=float(args["lower"]), upper=float(args["upper"]))
    pair = inputs["anchors"], inputs["others"]
    return {"temperature": amcl.pair_temperatures_concat(params, *pair, **bounds)}


def over_heads(loss, *arrays):
    """Sum over heads of a loss of one."""
    return {"loss": jnp.sum(jax.vmap(loss)(*arrays))}


def amcl_nt_xent(inputs, args):
    """Of both views, each anchor against all others."""
    options = dict(
        feature_dim=float(args["feature_dim"]),
        beta=float(args["beta"]),
        aggregation=args.get("aggregation", "max"),
    )

    def loss(z1, z2, temperatures):
        z, n = jnp.concatenate([z1, z2]), len(z1)
        cosines, rows = similarity.cosine(z, z), jnp.arange(2 * n)
        positive = jnp.roll(rows, n)
        others = (rows[None] != rows[:, None]) & (rows[None] != positive[:, None])
        return amcl.amcl_info_nce(
            cosines[rows, positive],
            temperatures[rows, positive],
            cosines,
            temperatures,
            where=others,
            **options,
        )

    return over_heads(loss, *(inputs[k] for k in ("z1", "z2", "temperature")))


def amcl_negative_cosine(inputs, args):
    """Both directions; the targets are shared by the heads."""
    options = {k: float(args[k]) for k in ("feature_dim", "beta")}
    h1, h2 = inputs["h1"], inputs["h2"]

    def loss(z1, z2, first, second):
        one = amcl.amcl_simsiam(z1, h2, first, **options)
        return one + amcl.amcl_simsiam(z2, h1, second, **options)

    names = ("z1", "z2", "temperature_1", "temperature_2")
    return over_heads(loss, *(inputs[k] for k in names))


def amcl_barlow_twins(inputs, args):
    def loss(z1, z2, temperatures):
        return amcl.amcl_barlow_twins(
            z1,
            z2,
            temperatures,
            feature_dim=float(args["feature_dim"]),
            off_diagonal=float(args["off_diagonal_weight"]),
            beta=float(args["beta"]),
            eps=0.0,
        )

    return over_heads(loss, *(inputs[k] for k in ("z1", "z2", "temperature")))


ADAPTERS = {
    "temperature_regulariser": temperature_regulariser,
    "pair_temperature_concat_mlp": pair_temperature_concat_mlp,
    "amcl_nt_xent": amcl_nt_xent,
    "amcl_negative_cosine": amcl_negative_cosine,
    "amcl_barlow_twins": amcl_barlow_twins,
}
