"""SepCLR (Louiset et al. 2024): what two sets share apart from what one has alone.

A common encoder sees both sets, a salient one what only the target set has. Its terms
are `losses.alignment` and `losses.uniformity` on either side and, of its own,
`joint_entropy` (k-JEM), which keeps one from repeating the other; `sepclr` adds them
up. `label_alignment` is for salient factors that have labels. All take rows of all
devices.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from contrastive_jax import losses, numerics, similarity

__all__ = ["joint_entropy", "label_alignment", "sepclr"]


def joint_entropy(
    common: Float[Array, "n d"],
    salient: Float[Array, "n e"],
    *,
    tau: numerics.Number = 0.5,
    where: Bool[Array, " n"] | None = None,
) -> Float[Array, ""]:
    """Minus the entropy of both representations together, by a kernel density (k-JEM).

        loss = mean_i log mean_j exp(-(||c_i - c_j||^2 + ||s_i - s_j||^2) / (2 tau))

    with j = i among the mean, so it lies between -log n and 0. With the entropy of each
    held up by uniformity, less of this is less mutual information.     (nats)

    Args:
      common: representation of what both sets share, meant to have length 1.
      salient: of what only the target set has; 0 for the other one.
      tau: squared width of the kernel, > 0.
      where: rows that count; 0 where none does.

    References:
      Louiset et al. 2024, arXiv:2402.11928 (k-JEM).

    Examples:
      >>> x = jnp.array([[0.0], [1.0]])
      >>> f"{joint_entropy(x, x):.4f}"  # log((1 + e^-2) / 2)
      '-0.5662'
    """
    numerics.check_positive(tau=tau)
    numerics.check_shapes(
        common=(common, "n d"), salient=(salient, "n e"), where=(where, "n")
    )
    common = numerics.at_least_f32(common, "common")
    salient = numerics.at_least_f32(salient, "salient")
    where = numerics.mask_or_all(where, common.shape[:1])
    both = jnp.where(where[:, None], jnp.concatenate([common, salient], axis=1), 0)
    kernel = -similarity.squared_euclidean_distance(both, both) / (2 * tau)
    pairs = where[:, None] & where[None, :]
    count = numerics.safe_log(jnp.sum(where, dtype=both.dtype))
    terms = numerics.masked_logsumexp(kernel, pairs) - count
    return numerics.masked_mean(similarity.within(terms, -jnp.inf, 0.0), where)


def label_alignment(
    x: Float[Array, " n"],
    labels: Float[Array, " n"],
    *,
    tau: numerics.Number = 0.025,
    where: Bool[Array, " n"] | None = None,
) -> Float[Array, ""]:
    """Pulls together one salient number of rows whose labels are near.

        loss = mean_{i < j} exp(-(y_i - y_j)^2 / (2 tau)) (x_i - x_j)^2

    Args:
      x: one number of the salient representation.
      labels: y, the attribute that it stands for.
      tau: squared width of the kernel, > 0; 5e-6 for attributes with few values.
      where: rows that count; 0 with fewer than two.

    References:
      Louiset et al. 2024, arXiv:2402.11928 (supervised, disentangled variant).

    Examples:
      >>> x = jnp.array([0.0, 1.0, 3.0])
      >>> f"{label_alignment(x, jnp.array([0.0, 0.0, 9.0])):.4f}"
      '0.3333'
    """
    numerics.check_positive(tau=tau)
    numerics.check_shapes(x=(x, "n"), labels=(labels, "n"), where=(where, "n"))
    x, labels = numerics.at_least_f32(x, "x"), numerics.at_least_f32(labels, "labels")
    where = numerics.mask_or_all(where, x.shape)
    x, labels = jnp.where(where, x, 0), jnp.where(where, labels, 0)
    kernel = jnp.exp(-((labels[:, None] - labels[None, :]) ** 2) / (2 * tau))
    apart = where[:, None] & where[None, :] & ~jnp.eye(len(x), dtype=bool)
    return numerics.masked_mean(kernel * (x[:, None] - x[None, :]) ** 2, apart)


def sepclr(
    common: tuple[Float[Array, "n d"], Float[Array, "n d"]],
    salient: tuple[Float[Array, "n e"], Float[Array, "n e"]],
    is_target: Bool[Array, " n"],
    *,
    salient_weight: numerics.Number = 1.0,
    information_less_weight: numerics.Number = 1.0,
    jem_weight: numerics.Number = 1.0,
    tau: numerics.Number = 0.5,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The objective of SepCLR on two views of each row.

        loss = A(c, c') + 2 U(c) + salient_weight (A(s, s') + 2 U(t))
            + information_less_weight R(s) + jem_weight J(c, t)

    A is `losses.alignment` / (2 tau), of s over the target rows; U `losses.uniformity`
    at t = 1 / (2 tau); R the mean squared length of s over background rows; J
    `joint_entropy`. Of U, R and J it is the mean over both views. c is scaled to length
    1, s is not; t is s in rows of the target set and 0 in others. A part without a row
    that counts is 0.

    Args:
      common: outputs of the common head for the first and the second view.
      salient: outputs of the salient head.
      is_target: rows of the target set; the others are background.
      salient_weight: of alignment and uniformity of the salient side.
      information_less_weight: of what holds the salient side of the background at 0.
      jem_weight: of k-JEM; 0 turns it off.
      tau: squared width of all kernels, > 0.

    Returns:
      the loss and its parts, not yet weighted: "common_align", "common_uniform",
      "salient_align", "salient_uniform", "information_less", "joint_entropy".

    References:
      Louiset et al. 2024, arXiv:2402.11928; neurospin-projects/2024_rlouiset_sep_clr.

    Examples:
      >>> c = s = (jnp.eye(2), jnp.eye(2))
      >>> loss, parts = sepclr(c, s, jnp.array([True, False]), jem_weight=0.0)
      >>> print(parts["common_uniform"], parts["information_less"])
      -2.0 1.0
    """
    numerics.check_positive(tau=tau)
    numerics.check_nonnegative(
        salient_weight=salient_weight,
        information_less_weight=information_less_weight,
        jem_weight=jem_weight,
    )
    for c, s in zip(common, salient, strict=True):
        numerics.check_shapes(
            common=(c, "n d"), salient=(s, "n e"), is_target=(is_target, "n")
        )
    is_target = numerics.check_mask(is_target, "is_target")
    c = [similarity.l2_normalize(x) for x in common]
    t = [jnp.where(is_target[:, None], x, 0) for x in salient]
    share = 1 / (2 * tau)
    parts = {
        "common_align": share * losses.alignment(*c),
        "common_uniform": mean(losses.uniformity(x, t=share) for x in c),
        "salient_align": share * losses.alignment(*salient, where=is_target),
        "salient_uniform": mean(losses.uniformity(x, t=share) for x in t),
        "information_less": mean(
            losses.alignment(x, jnp.zeros_like(x), where=~is_target) for x in salient
        ),
        "joint_entropy": mean(
            joint_entropy(*views, tau=tau) for views in zip(c, t, strict=True)
        ),
    }
    loss = (
        parts["common_align"]
        + 2 * parts["common_uniform"]
        + salient_weight * (parts["salient_align"] + 2 * parts["salient_uniform"])
        + information_less_weight * parts["information_less"]
        + jem_weight * parts["joint_entropy"]
    )
    return loss, parts


def mean(views):
    """Mean over both views."""
    first, second = views
    return (first + second) / 2
