"""Names of SepCLR's reference values, in terms of the library."""

from contrastive_jax import losses
from contrastive_jax.methods import sepclr


def align_loss(inputs, args):
    loss = losses.alignment(inputs["x"], inputs["y"], alpha=float(args["alpha"]))
    return {"loss": loss / (2 * args["tau"])}


def uniform_loss(inputs, args):
    return {"loss": losses.uniformity(inputs["x"], t=1 / (2 * args["tau"]))}


def joint_entropy_loss(inputs, args):
    return {"loss": sepclr.joint_entropy(**inputs, tau=float(args["tau"]))}


def sup_align_loss(inputs, args):
    tau = float(args["tau"])
    loss = sepclr.label_alignment(inputs["x"], inputs["attribute"], tau=tau)
    return {"loss": loss}


def discrete_sup_align_loss(inputs, args):
    loss = sepclr.label_alignment(inputs["x"], inputs["attribute"], tau=5e-6)
    return {"loss": loss}


def sepclr_loss(inputs, args):
    loss, parts = sepclr.sepclr(
        (inputs["common_1"], inputs["common_2"]),
        (inputs["salient_1"], inputs["salient_2"]),
        inputs["is_target"] > 0,
        salient_weight=args["salient_weight"],
        information_less_weight=args["information_less_weight"],
        jem_weight=args["jem_weight"],
        tau=args["tau"],
    )
    return {"loss": loss, **parts}


ADAPTERS = {
    "align_loss": align_loss,
    "uniform_loss": uniform_loss,
    "joint_entropy_loss": joint_entropy_loss,
    "sup_align_loss": sup_align_loss,
    "discrete_sup_align_loss": discrete_sup_align_loss,
    "sepclr_loss": sepclr_loss,
}
