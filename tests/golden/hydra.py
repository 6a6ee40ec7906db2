"""Names of Hydra's reference values, in terms of the library."""

from contrastive_jax import losses
from contrastive_jax.methods import hydra
from experiments.hydra import model


def multi_positive_info_nce(inputs, args):
    """The mean over pairs; what is neither positive nor negative does not count."""
    positives, negatives = inputs["pos_mask"], inputs["neg_mask"]
    over = {"positives": "pairs", "anchors": "anchors"}
    loss = losses.multi_positive_info_nce(
        inputs["logits"],
        positives,
        where=positives | negatives,
        over=over[args.get("reduction", "positives")],
    )
    return {"loss": loss}


def class_pair_gate(inputs, args):
    """Linear weights are (out, in) there; its layers are numbered."""
    w = {k.removeprefix("param."): v for k, v in inputs.items() if "param." in k}

    def norm(i):
        return {
            "BatchNorm_0": {"scale": w[f"mlp.{i}.weight"], "bias": w[f"mlp.{i}.bias"]}
        }

    def stats(i):
        means = w[f"mlp.{i}.running_mean"], w[f"mlp.{i}.running_var"]
        return {"BatchNorm_0": dict(zip(("mean", "var"), means, strict=True))}

    def dense(i):
        return {"kernel": w[f"mlp.{i}.weight"].T, "bias": w[f"mlp.{i}.bias"]}

    table = w["label_embedding.weight"]
    params = {
        "table": table,
        "first_norm": norm(1),
        "first": dense(2),
        "second_norm": norm(4),
        "second": dense(5),
    }
    statistics = {"first_norm": stats(1), "second_norm": stats(4)}
    gate = model.ClassPairGate(
        *table.shape[:1],
        w["mlp.5.bias"].size,
        *table.shape[1:],
        w["mlp.2.bias"].size,
        fuse=args["fuse"].partition("_")[0],
        epsilon=float(args["bn_eps"]),
        dtype=table.dtype,
    )
    variables = {"params": params, "batch_stats": statistics}
    rows, train = (inputs["y1"], inputs["y2"]), bool(args["train"])
    if not train:
        return {"gate": gate.apply(variables, *rows, train=False)}
    out, _ = gate.apply(variables, *rows, train=True, mutable=["batch_stats"])
    return {"gate": out}


def class_pair_contrastive(inputs, args, normalize):
    """Keys are the anchors themselves."""
    z, labels = inputs["z"], inputs["labels"]
    scores = hydra.gated_similarity(z, z, inputs["gate"], normalize=normalize)
    logits = scores / float(args["temperature"])
    loss = hydra.class_pair_contrastive(logits, labels, inputs["pair_labels"], labels)
    return {"loss": loss, "logits": logits}


def normalise_then_gate(inputs, args):
    return class_pair_contrastive(inputs, args, "before")


def gate_then_normalise(inputs, args):
    return class_pair_contrastive(inputs, args, "after")


ADAPTERS = {
    "multi_positive_info_nce": multi_positive_info_nce,
    "class_pair_gate": class_pair_gate,
    "class_pair_contrastive_normalise_then_gate": normalise_then_gate,
    "class_pair_contrastive_gate_then_normalise": gate_then_normalise,
}
