"""Names of the reference values of DSE, in terms of the library."""

import jax.numpy as jnp

from contrastive_jax import losses, models
from contrastive_jax.methods import dse


def pool(inputs, args):
    """Tokens of the last layers; names of cases repeat what the arguments say."""
    sqrt = "sqrt" if args.get("divide_by_sqrt") else "mean"
    y = models.pool_layers(
        list(inputs["hidden_states"]),
        inputs["attention_mask"] != 0,
        k=int(args["num_top"]),
        combine=args["combine"],
        pooler="max" if args["reduce"] == "max" else sqrt,
        skip_first=bool(args["skip_first_token"]),
    )
    return {"y": y}


def pooler(combine, reduce):
    return lambda inputs, args: pool(
        inputs, {"combine": combine, "reduce": reduce, **args}
    )


def siamese_head(inputs, args):
    layers = [
        {"kernel": inputs[f"w{i}"].T, "bias": inputs[f"b{i}"]}
        for i in range(len(args["fc_dims"]))
    ]
    u, v = inputs["u"], inputs["v"]
    return {"y": dse.siamese_head(layers, u, v, features=args["head"])}


def logit_distillation(inputs, args):
    loss = losses.logit_mse(
        inputs["y_pred"], inputs["teacher_logits"], candidates="sum"
    )
    return {"loss": loss}


def dse_objective(inputs, args):
    if "teacher_two_logits" in inputs:
        teacher = dse.binary_teacher_logit(inputs["teacher_two_logits"])
    else:
        teacher = inputs["teacher_logits"]
    loss = dse.distilled_objective(
        inputs["y_pred"],
        jnp.ravel(inputs["labels"]),
        teacher,
        task=args["task"],
        coeff=args["distillation_coeff"],
    )
    return {"loss": loss}


ADAPTERS = {
    f"pool_{combine}_top_{reduce}{cls}": pooler(combine, reduce)
    for combine in ("concat", "mean")
    for reduce in ("mean", "sqrt_mean", "max")
    for cls in ("", "_with_cls")
} | {
    "siamese_head": siamese_head,
    "logit_distillation": logit_distillation,
    "dse_objective": dse_objective,
}
