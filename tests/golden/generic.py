"""Names of the generic reference values, in terms of the library.

Some cases differentiate by a plain argument (a scale, a bias). Such an argument is
entered among the inputs, where the caller finds it.
"""

import jax
import jax.numpy as jnp

from contrastive_jax import ebm, losses, numerics, pairs, parallel, similarity, states
from contrastive_jax.methods import moco

AXIS = "ranks"


def two_views(z1, z2):
    """Scores of all rows of two views against all, without temperature."""
    z = jnp.concatenate([z1, z2])
    return similarity.dot(z, z)


def others(n):
    return ~jnp.eye(n, dtype=bool)


def entered(inputs, args, name, shape=()):
    """A plain argument as an input, 0 where there is none."""
    return inputs.setdefault(name, jnp.full(shape, float(args.get(name, 0))))


def simclr_nt_xent(inputs, args):
    hidden = inputs["hidden"]
    if args["hidden_norm"]:
        hidden = similarity.l2_normalize(hidden)
    logits = similarity.dot(hidden, hidden) / args["temperature"]
    n = hidden.shape[0] // 2
    # The released code adds the two directions.
    return {"loss": 2 * losses.nt_xent(logits), "logits_ab": logits[:n, n:]}


def nt_xent_mean(inputs, args):
    scores = similarity.cosine if args["normalize"] else similarity.dot
    z = jnp.concatenate([inputs["z_a"], inputs["z_b"]])
    return {"loss": losses.nt_xent(scores(z, z) / args["temperature"])}


def moco_step(inputs, args):
    encode = lambda x, w: similarity.l2_normalize(similarity.matmul(x, w))  # noqa: E731
    w_q, w_k = inputs["W_q"], inputs["W_k"]
    keys = inputs["queue"].T
    size = keys.shape[0]
    queue = states.Queue(
        keys=keys,
        labels=jnp.full(size, -1),
        head=inputs["queue_ptr"].reshape(()),
        count=jnp.asarray(size),
    )
    out = []
    for x_q, x_k in zip(inputs["x_q"], inputs["x_k"], strict=True):
        w_k = states.ema_update(w_k, w_q, decay=args["momentum"])
        key = jax.lax.stop_gradient(encode(x_k, w_k))
        # The stored gradient is of the last step alone.
        out = [jax.lax.stop_gradient(loss) for loss in out]
        query = encode(x_q, w_q)
        positive = jnp.sum(query * key, axis=-1) / args["temperature"]
        negative = similarity.dot(query, queue.keys) / args["temperature"]
        out.append(moco.moco(positive, negative))
        queue = states.queue_push(queue, key)
    return {
        "loss": jnp.stack(out),
        "logits_last": jnp.concatenate([positive[:, None], negative], axis=1),
        "W_k": w_k,
        "queue": queue.keys.T,
        "queue_ptr": queue.head[None],
    }


def momentum_cosine_schedule(inputs, args):
    progress = inputs["epoch"] / args["epochs"]
    return {"momentum": states.ema_schedule(progress, base=args["base_momentum"])}


def cosine_schedule(inputs, args):
    total = args["epochs"] * args["steps_per_epoch"]
    value = states.cosine_schedule(
        jnp.arange(total),
        num_steps=total,
        base=float(args["base_value"]),
        final=float(args["final_value"]),
        warmup_steps=args["warmup_epochs"] * args["steps_per_epoch"],
        start=float(args["start_warmup_value"]),
    )
    return {"value": value}


def byol_target_update(inputs, args):
    tau = states.ema_schedule(float(args["progress"]), base=args["base_tau"])
    target = states.ema_update(inputs["target"], inputs["online"], decay=tau)
    return {"target": target, "tau": tau}


def mocov3_loss(inputs, args):
    def one_way(q, k):
        logits = similarity.cosine(q, jax.lax.stop_gradient(k)) / args["temperature"]
        return moco.moco_v3(logits, temperature=args["temperature"])

    first = one_way(inputs["q1"], inputs["k2"])
    return {
        "loss": first + one_way(inputs["q2"], inputs["k1"]),
        "loss_q1k2": first,
    }


def byol_loss(inputs, args):
    first = losses.byol(inputs["p1"], inputs["z2"])
    return {"loss": first + losses.byol(inputs["p2"], inputs["z1"])}


def simsiam_loss(inputs, args):
    predictions = jnp.concatenate([inputs["p1"], inputs["p2"]])
    targets = jnp.concatenate([inputs["z2"], inputs["z1"]])
    return {"loss": losses.simsiam(predictions, targets)}


def sup_con(inputs, args):
    features = inputs["features"]
    num, views = features.shape[:2]
    x = jnp.concatenate(list(features.swapaxes(0, 1)))
    if "mask" in inputs:
        same = inputs["mask"] > 0
    else:
        same = pairs.same_label(inputs.get("labels", jnp.arange(num)))
    anchors = num if args["contrast_mode"] == "one" else num * views
    logits = similarity.dot(x, x)[:anchors] / args["temperature"]
    where = others(num * views)[:anchors]
    positives = jnp.tile(same, (views, views))[:anchors] & where
    loss = losses.supervised_contrastive(
        logits,
        positives,
        where=where,
        count_all=True,
        scale=args["temperature"] / args["base_temperature"],
    )
    return {"loss": loss}


def clip_logits(image, text, scale, bias=0.0):
    return scale * similarity.dot(image, text) + bias


def clip_loss(inputs, args):
    return {"loss": losses.two_way_info_nce(clip_logits(*clip_parts(inputs)))}


def siglip_loss(inputs, args):
    return {"loss": losses.pairwise_sigmoid(clip_logits(*clip_parts(inputs)))}


def clip_parts(inputs):
    bias = inputs.get("logit_bias", 0.0)
    return inputs["image"], inputs["text"], inputs["logit_scale"], bias


def distill_clip_loss(inputs, args):
    logits = clip_logits(*clip_parts(inputs))
    teacher = clip_logits(
        inputs["teacher_image"], inputs["teacher_text"], inputs["teacher_logit_scale"]
    )
    contrastive = losses.two_way_info_nce(logits)
    distill = losses.clip_distillation(logits, teacher)
    return {
        "loss": contrastive + distill,
        "contrastive": contrastive,
        "distill": distill,
    }


def clip_loss_distributed(inputs, args):
    """Every rank's own loss; the stored gradient is of the sum of all ranks' losses.

    Without `gather_with_grad` other ranks' rows carry none; the full loss then puts
    the own rows back in among the gathered ones.
    """
    ranks = args["world_size"]
    scale = entered(inputs, args, "logit_scale", (ranks,))
    bias = entered(inputs, args, "logit_bias", (ranks,))

    def gathered(x, rows):
        every = parallel.all_gather(x, AXIS)
        if args["gather_with_grad"]:
            return every
        every = jax.lax.stop_gradient(every)
        return every if args["local_loss"] else every.at[rows].set(x)

    def loss(image, text, scale, bias):
        rows = parallel.global_rows(image.shape[0], AXIS)
        images, texts = gathered(image, rows), gathered(text, rows)
        if not args["local_loss"]:
            return losses.two_way_info_nce(clip_logits(images, texts, scale, bias))
        return losses.two_way_info_nce(
            clip_logits(image, texts, scale, bias),
            rows,
            reverse_logits=clip_logits(text, images, scale, bias),
        )

    run = jax.vmap(loss, axis_name=AXIS)
    return {"loss": run(inputs["image"], inputs["text"], scale, bias)}


def local_sigmoid(image, text, scale, bias):
    """The sigmoid loss of this rank's images against the texts of all."""
    logits = clip_logits(image, parallel.all_gather(text, AXIS), scale, bias)
    rows = parallel.global_rows(image.shape[0], AXIS)
    return losses.pairwise_sigmoid(logits, pairs.one_column(rows, logits.shape[1]))


def siglip_loss_distributed(inputs, args):
    ranks = args["world_size"]
    scale = entered(inputs, args, "logit_scale", (ranks,))
    bias = entered(inputs, args, "logit_bias", (ranks,))
    run = jax.vmap(local_sigmoid, axis_name=AXIS)
    return {"loss": run(inputs["image"], inputs["text"], scale, bias)}


def sharded_softmax_loss(inputs, args):
    """The full loss on every device; the stored gradient is of their mean."""

    def loss(image, text, scale, bias):
        images, texts = parallel.all_gather((image, text), AXIS)
        return losses.two_way_info_nce(clip_logits(images, texts, scale, bias))

    return sharded(loss, inputs, args)


def sharded_sigmoid_loss(inputs, args):
    """The images of each device against all texts; the gradient is of the mean."""
    return sharded(local_sigmoid, inputs, args)


def sharded(loss, inputs, args):
    scale, bias = entered(inputs, args, "t"), entered(inputs, args, "b")
    run = jax.vmap(loss, in_axes=(0, 0, None, None), axis_name=AXIS)
    each = run(inputs["image"], inputs["text"], scale, bias)
    return {"loss": jnp.mean(each), "per_device_loss": each}


def barlow_twins(inputs, args):
    loss = losses.barlow_twins(
        inputs["z_a"],
        inputs["z_b"],
        off_diagonal=float(args["lambd"]),
        eps=float(args["bn_eps"]),
    )
    return {"loss": loss}


def vicreg(inputs, args):
    loss = losses.vicreg(
        inputs["z_a"],
        inputs["z_b"],
        invariance=float(args["sim_coeff"]),
        variance=float(args["std_coeff"]),
        covariance=float(args["cov_coeff"]),
        eps=float(args["var_eps"]),
    )
    return {"loss": loss}


def balanced(scores, args, **queue):
    options = dict(epsilon=float(args["epsilon"]), num_iterations=args["n_iters"])
    return losses.sinkhorn(scores, **queue, **options)


def sinkhorn(inputs, args):
    return {"assignments": balanced(inputs["scores"], args)}


def swav_loss(inputs, args):
    raw = inputs["prototypes"]
    prototypes = similarity.l2_normalize(raw)
    # The stored gradient is with respect to the normalised prototypes.
    through = jax.lax.stop_gradient(prototypes - raw) + raw
    num, chosen = args["batch"], tuple(args["crops_for_assign"])
    crops = inputs["embedding"].reshape(sum(args["nmb_crops"]), num, -1)
    scores = similarity.dot(inputs["embedding"], through)
    scores = scores.reshape(*crops.shape[:2], -1)
    options, out = [{} for _ in chosen], {"prototypes_normalized": prototypes}
    if "queue" in inputs:
        queue = inputs["queue"]  # newest rows first
        # Once one crop's is full, the later crops' are used as well.
        full = jnp.cumsum(jnp.any(queue[:, -1], axis=-1)) > 0
        options = [
            {
                "queued": similarity.dot(rows, prototypes),
                "where_queued": jnp.full(len(rows), use),
            }
            for rows, use in zip(queue, full, strict=True)
        ]
        pushed = jnp.concatenate([crops[jnp.array(chosen)], queue[:, :-num]], axis=1)
        out["queue"] = pushed
    assignments = [
        balanced(scores[crop], args, **queued)
        for crop, queued in zip(chosen, options, strict=True)
    ]
    out["loss"] = losses.swav(
        scores,
        jnp.stack(assignments),
        crops=chosen,
        temperature=float(args["temperature"]),
    )
    return out


def dino_loss(inputs, args):
    centre = states.Center(value=inputs["center"][0])
    width = centre.value.size
    num = inputs["teacher"].shape[0] // 2
    loss = losses.dino(
        inputs["student"].reshape(args["n_crops"], num, width),
        inputs["teacher"].reshape(2, num, width),
        centre.value,
        student_temperature=float(args["student_temp"]),
        teacher_temperature=float(args["teacher_temp"]),
    )
    mean = jnp.mean(inputs["teacher"], axis=0)
    centre = states.center_update(centre, mean, decay=float(args["center_momentum"]))
    return {"loss": loss, "center": centre.value[None]}


def cholesky_whiten(inputs, args):
    return {"y": numerics.cholesky_whiten(inputs["x"], eps=float(args["eps"]))}


def w_mse(inputs, args):
    permutations = inputs["perms"]
    views = jnp.split(inputs["h"], inputs["h"].shape[0] // permutations.shape[1])
    out = [
        losses.w_mse(
            views[i],
            views[j],
            permutations=permutations,
            group_size=args["w_size"],
            normalize=args["normalize"],
            eps=float(args["eps"]),
        )
        for i in range(len(views))
        for j in range(i + 1, len(views))
    ]
    return {"loss": jnp.mean(jnp.stack(out))}


def dcl(inputs, args):
    z1, z2 = inputs["z1"], inputs["z2"]
    n = z1.shape[0]
    across, within = similarity.dot(z1, z2), similarity.dot(z1, z1)
    weights = None
    if args["sigma"] is not None:
        weights = losses.decoupled_weights(
            jnp.diagonal(across), sigma=float(args["sigma"])
        )
    loss = losses.decoupled_info_nce(
        jnp.concatenate([across, within], axis=1) / args["temperature"],
        where=jnp.concatenate([jnp.ones((n, n), bool), others(n)], axis=1),
        positive_weights=weights,
    )
    return {"loss": loss}


def other_views(z1, z2, args):
    """What the losses over two views take: logits, columns, everyone but oneself."""
    n = z1.shape[0]
    logits = two_views(z1, z2) / args["temperature"]
    labels = jnp.concatenate([jnp.arange(n) + n, jnp.arange(n)])
    return logits, labels, others(2 * n)


def debiased_contrastive(inputs, args):
    logits, labels, where = other_views(inputs["z1"], inputs["z2"], args)
    if not args["debiased"]:
        return {"loss": losses.nt_xent(logits)}
    loss = losses.debiased_info_nce(
        logits,
        labels,
        class_prior=float(args["tau_plus"]),
        temperature=float(args["temperature"]),
        where=where,
    )
    return {"loss": loss}


def hard_negative_contrastive(inputs, args):
    logits, labels, where = other_views(inputs["z1"], inputs["z2"], args)
    if args["estimator"] == "easy":
        return {"loss": losses.nt_xent(logits)}
    loss = losses.hard_negative_info_nce(
        logits,
        labels,
        beta=float(args["beta"]),
        class_prior=float(args["tau_plus"]),
        temperature=float(args["temperature"]),
        where=where,
    )
    return {"loss": loss}


def alignment(inputs, args):
    loss = losses.alignment(inputs["x"], inputs["y"], alpha=float(args["alpha"]))
    return {"loss": loss}


def uniformity(inputs, args):
    return {"loss": losses.uniformity(inputs["x"], t=float(args["t"]))}


def rank_n_contrast(inputs, args):
    features, labels = inputs["features"], inputs["labels"]
    views = features.shape[1]
    x = jnp.concatenate(list(features.swapaxes(0, 1)))
    y = jnp.tile(labels, (views, 1))
    apart = similarity.manhattan_distance(y, y)
    logits = similarity.euclidean(x, x) / args["temperature"]
    loss = losses.rank_n_contrast(logits, apart, where=others(x.shape[0]))
    return {"loss": loss}


def labelled(inputs):
    """The positives, and everyone but oneself."""
    labels = inputs["labels"]
    return {"positives": pairs.same_label(labels), "where": others(labels.size)}


def unit_distances(inputs):
    x = similarity.l2_normalize(inputs["embeddings"])
    return similarity.euclidean_distance(x, x)


def triplet_margin_l2(inputs, args):
    x = inputs["embeddings"]
    distances = similarity.euclidean_distance(x, x)
    if args["normalize"]:
        distances = unit_distances(inputs)
    loss = losses.triplet_batch_all(
        distances,
        **labelled(inputs),
        swap_distances=distances if args["swap"] else None,
        margin=float(args["margin"]),
        soft=args["smooth"],
    )
    return {"loss": loss}


def cosines(inputs):
    return similarity.cosine(inputs["embeddings"], inputs["embeddings"])


def triplet_margin_cosine(inputs, args):
    loss = losses.triplet_batch_all(
        1 - cosines(inputs), **labelled(inputs), margin=float(args["margin"])
    )
    return {"loss": loss}


def triplet_batch_hard(inputs, args):
    loss = losses.triplet_batch_hard(
        unit_distances(inputs), **labelled(inputs), margin=float(args["margin"])
    )
    return {"loss": loss}


def contrastive_pair(inputs, args):
    loss = losses.contrastive_margin(
        unit_distances(inputs),
        **labelled(inputs),
        positive_margin=float(args["pos_margin"]),
        negative_margin=float(args["neg_margin"]),
    )
    return {"loss": loss}


def multi_similarity(inputs, args):
    options = {k: float(args[k]) for k in ("alpha", "beta", "base")}
    loss = losses.multi_similarity(cosines(inputs), **labelled(inputs), **options)
    return {"loss": loss}


def n_pairs(inputs, args):
    # The stored values are of rows scaled to length 1, whatever their note says.
    x = similarity.l2_normalize(inputs["embeddings"])
    second, first = pairs.first_pair(inputs["labels"])
    return {"loss": losses.n_pairs(x, x[second], where=first)}


def nt_xent_labels(inputs, args):
    logits = cosines(inputs) / args["temperature"]
    return {
        "loss": losses.multi_positive_info_nce(logits, **labelled(inputs), over="pairs")
    }


def noise(inputs):
    return {
        "positive_log_noise": inputs["log_q_pos"],
        "negative_log_noise": inputs["log_q_neg"],
    }


def ranking_nce(inputs, args):
    return {"loss": ebm.ranking_nce(inputs["s_pos"], inputs["s_neg"], **noise(inputs))}


def binary_nce(inputs, args):
    return {"loss": ebm.binary_nce(inputs["s_pos"], inputs["s_neg"], **noise(inputs))}


def negative_sampling(inputs, args):
    return {"loss": ebm.negative_sampling(inputs["s_pos"], inputs["s_neg"])}


ADAPTERS = {
    "simclr_nt_xent": simclr_nt_xent,
    "nt_xent_mean": nt_xent_mean,
    "moco_step": moco_step,
    "momentum_cosine_schedule": momentum_cosine_schedule,
    "cosine_schedule": cosine_schedule,
    "byol_target_update": byol_target_update,
    "mocov3_loss": mocov3_loss,
    "byol_loss": byol_loss,
    "simsiam_loss": simsiam_loss,
    "sup_con": sup_con,
    "clip_loss": clip_loss,
    "siglip_loss": siglip_loss,
    "distill_clip_loss": distill_clip_loss,
    "clip_loss_distributed": clip_loss_distributed,
    "siglip_loss_distributed": siglip_loss_distributed,
    "sharded_softmax_loss": sharded_softmax_loss,
    "sharded_sigmoid_loss": sharded_sigmoid_loss,
    "barlow_twins": barlow_twins,
    "vicreg": vicreg,
    "sinkhorn": sinkhorn,
    "swav_loss": swav_loss,
    "dino_loss": dino_loss,
    "cholesky_whiten": cholesky_whiten,
    "w_mse": w_mse,
    "dcl": dcl,
    "debiased_contrastive": debiased_contrastive,
    "hard_negative_contrastive": hard_negative_contrastive,
    "alignment": alignment,
    "uniformity": uniformity,
    "rank_n_contrast": rank_n_contrast,
    "triplet_margin_l2": triplet_margin_l2,
    "triplet_margin_cosine": triplet_margin_cosine,
    "triplet_batch_hard": triplet_batch_hard,
    "contrastive_pair": contrastive_pair,
    "multi_similarity": multi_similarity,
    "n_pairs": n_pairs,
    "nt_xent_labels": nt_xent_labels,
    "ranking_nce": ranking_nce,
    "binary_nce": binary_nce,
    "negative_sampling": negative_sampling,
}
