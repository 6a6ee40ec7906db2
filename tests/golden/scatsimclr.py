"""Names of ScatSimCLR's reference values, in terms of the library."""

import jax.numpy as jnp
import numpy as np

from contrastive_jax import losses, models, similarity
from contrastive_jax.data.augment import pretext
from contrastive_jax.models import resnet


def scattering_2d(inputs, args):
    sizes = dict(scales=args["J"], angles=args["L"], max_order=args["max_order"])
    return {"coefficients": models.scattering_2d(inputs["images"], **sizes)}


def morlet_filter_bank(inputs, args):
    shape = tuple(map(int, np.asarray(inputs["size"])))
    bank = models.morlet_filter_bank(shape, args["J"], args["L"])
    outputs = {f"phi_res{r}": phi for r, phi in enumerate(bank.phi)}
    for j, resolutions in enumerate(bank.psi):
        for r, filters in enumerate(resolutions):
            for a, psi in enumerate(filters):
                outputs[f"psi_j{j}_theta{a}_res{r}"] = psi
    return outputs


def nt_xent(inputs, args):
    z = jnp.concatenate([inputs["z_i"], inputs["z_j"]])
    return {"loss": losses.nt_xent(similarity.cosine(z, z) / args["temperature"])}


def jigsaw_tiles(inputs, args):
    del args
    image, permutation = inputs.get("image"), inputs["permutation"]
    size = inputs["image_size"] if image is None else image.shape[0]
    outputs = {"boxes_left_top_right_bottom": pretext.jigsaw_boxes(int(size))}
    if image is not None:
        outputs["shuffled_tiles"] = pretext.jigsaw_tiles(image, permutation)
    return outputs


def residual_block(inputs, args):
    """Layers in the order they are made: two of the branch, one of a shortcut."""
    weights = {k[6:]: x for k, x in inputs.items() if k.startswith("param.")}
    shortcut = [k for k in weights if not k.startswith(("conv", "bn"))]
    layers = [("conv1", "bn1"), ("conv2", "bn2")]
    if shortcut:
        norm = next(k for k in shortcut if k.endswith("running_mean"))
        norm = norm.rpartition(".")[0]
        conv = next(k for k in shortcut if weights[k].ndim == 4)
        layers.append((conv.rpartition(".")[0], norm))
    params, stats = {}, {}
    for i, (conv, norm) in enumerate(layers):
        kernel = jnp.transpose(weights[f"{conv}.weight"], (2, 3, 1, 0))
        scale, bias, mean, var = (
            weights[f"{norm}.{x}"]
            for x in ("weight", "bias", "running_mean", "running_var")
        )
        inner = {"BatchNorm_0": {"scale": scale, "bias": bias}}
        params[f"ConvNorm_{i}"] = {"Conv_0": {"kernel": kernel}, "BatchNorm_0": inner}
        inner = {"BatchNorm_0": {"mean": mean, "var": var}}
        stats[f"ConvNorm_{i}"] = {"BatchNorm_0": inner}
    x = inputs["x"]
    width = weights["conv2.weight"].shape[0]
    block = resnet.Block(width, "basic", args.get("stride", 1), dtype=x.dtype)
    train = args["train"]
    y = block.apply(
        {"params": params, "batch_stats": stats},
        jnp.moveaxis(x, 1, -1),
        train=train,
        mutable=["batch_stats"] if train else False,
    )
    return {"y": jnp.moveaxis(y[0] if train else y, -1, 1)}


ADAPTERS = {
    "scattering_2d": scattering_2d,
    "morlet_filter_bank": morlet_filter_bank,
    "nt_xent": nt_xent,
    "jigsaw_tiles": jigsaw_tiles,
    "residual_block": residual_block,
}
