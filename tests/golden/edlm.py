"""Adapters of the EDLM collection: masked diffusion and its residual energy."""

import jax.numpy as jnp

from contrastive_jax import ebm
from contrastive_jax.methods import edlm


def loglinear_schedule(inputs, args):
    return ebm.loglinear_schedule(inputs["t"], eps=args["eps"])._asdict()


def subs_log_probs(inputs, args):
    found = ebm.subs_log_probs(
        inputs["logits"], inputs["xt"], mask_id=args["mask_index"]
    )
    return {"log_probs": found}


def mdlm_loss(inputs, args):
    t, mask_id = inputs["t"], args["mask_index"]
    chance = ebm.loglinear_schedule(t, eps=args["eps"]).move_chance
    xt = ebm.mask_tokens(inputs["uniform"], inputs["x0"], chance, mask_id=mask_id)
    log_probs = ebm.subs_log_probs(inputs["logits"], xt, mask_id=mask_id)
    real = inputs["attention_mask"] > 0
    loss = ebm.masked_diffusion(log_probs, inputs["x0"], t, where=real)
    nlls = per_token(log_probs, inputs["x0"], t, where=real.reshape(-1, 1))
    return {"xt": xt, "nlls": nlls, "loss": loss}


def per_token(log_probs, tokens, t, **options):
    """The objective of every token as a sequence of its own."""
    n, length = tokens.shape
    flat = ebm.masked_diffusion(
        log_probs.reshape(n * length, 1, -1),
        tokens.reshape(n * length, 1),
        jnp.repeat(t, length),
        reduce_fn=None,
        **options,
    )
    return flat.reshape(n, length)


def mdlm_discrete_loss(inputs, args):
    log_probs = ebm.subs_log_probs(
        inputs["logits"], inputs["xt"], mask_id=args["mask_index"]
    )
    loss = per_token(log_probs, inputs["x0"], inputs["t"], max_time=1 - 1e-4)
    return {"loss_per_token": loss}


def antithetic_t(inputs, args):
    t = ebm.antithetic_times(inputs["uniform"], min_t=args["sampling_eps"])
    return {"t": t}


def ddpm_cached_step(inputs, args):
    probs = ebm.ddpm_probs(
        inputs["x"], inputs["p_x0"], args["t"], args["dt"], mask_id=args["mask_index"]
    )
    # The draw of the released code, from its own uniforms.
    race = 1e-10 - jnp.log(inputs["uniform"] + 1e-10)
    return {"x_next": jnp.argmax(probs / race, axis=-1)}


def edlm_ar_energy(inputs, args):
    energy = edlm.autoregressive_energy(
        inputs["ar_logits"],
        inputs["diffusion_log_probs"],
        inputs["x0"],
        inputs["xt"],
        mask_id=args["mask_index"],
        carry_over=args["carry_over"],
    )
    return {"energy": energy}


def edlm_nce_loss(inputs, args):
    positive, negative = inputs["energy_pos"].reshape(-1), inputs["energy_neg"]
    each = edlm.residual_nce(positive, negative, reduce_fn=None)
    loss = edlm.residual_nce(positive, negative)
    return {"loss_per_example": each, "loss": loss, "loss_stable": loss}


def importance_weights(inputs, args):
    log_w = -inputs["energies"] / args["temperature"]
    return {"weights": ebm.self_normalized_weights(log_w)}


def log_partition_estimates(inputs, args):
    energies = inputs["energies"]
    found = edlm.log_partition_bounds(energies)
    return {
        "log_z": found.estimate,
        "log_z_leave_one_out": found.leave_one_out,
        "log_z_upper": found.upper,
        "log_z_jensen_single": edlm.log_partition_bounds(energies[..., :1]).estimate,
    }


ADAPTERS = {
    "loglinear_schedule": loglinear_schedule,
    "subs_log_probs": subs_log_probs,
    "mdlm_loss": mdlm_loss,
    "mdlm_discrete_loss": mdlm_discrete_loss,
    "antithetic_t": antithetic_t,
    "ddpm_cached_step": ddpm_cached_step,
    "edlm_ar_energy": edlm_ar_energy,
    "edlm_nce_loss": edlm_nce_loss,
    "importance_weights": importance_weights,
    "log_partition_estimates": log_partition_estimates,
}
