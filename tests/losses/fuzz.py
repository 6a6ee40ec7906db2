"""Random inputs for every loss, and what must hold for them whatever they are.

An `Example` says in a few choices what one case is called with. `inputs` makes it, and
three changes of it: something senseless where the mask hides it, the anchors in another
order, a NaN in something that counts. `check` looks at what the loss returned for them.
"""

from typing import NamedTuple

import jax
import numpy as np

from . import battery

GARBAGE = (1e3, np.inf, -np.inf, np.nan)
CHOICES = {
    "rows": ("made", "zero", "one zero", "identical", "opposite"),
    "scale": (1.0, 1e-6, 1e-3, 1e2, np.inf),
    "kept": (1.0, 0.0, 0.3, 0.7),
    "positives": ("made", "none", "all", "random"),
    "labels": ("made", "same", "random"),
    "weights": ("ones", "zero", "some", "uneven"),
    "garbage": GARBAGE,
    "poisoned": tuple(range(24)),
}


class Example(NamedTuple):
    """One call of a loss; the first of each of `CHOICES` is the plainest.

    Attributes:
      seed: of everything that is drawn.
      rows: what becomes of the rows of the arguments that carry gradients.
      scale: factor of these, at most what the case allows.
      kept: share of the mask that is True.
      positives: what becomes of masks of positives or negatives.
      labels: what becomes of integers, one per anchor.
      weights: of the anchors.
      garbage: what stands where the mask is False.
      poisoned: which argument, axis and row becomes NaN.
    """

    seed: int
    rows: str
    scale: float
    kept: float
    positives: str
    labels: str
    weights: str
    garbage: float
    poisoned: int


def drawn(count, seed=0):
    """Some examples, always the same."""
    rng = np.random.default_rng(seed)
    return [
        Example(
            seed=k,
            **{name: c[rng.integers(len(c))] for name, c in CHOICES.items()},
        )
        for k in range(count)
    ]


def inputs(case, example, n=battery.N):
    """The inputs of one example by what was done to them."""
    rng = np.random.default_rng(example.seed)
    made = battery.full_inputs(case, n, seed=example.seed)
    plain = dict(made)
    for k, x in made.items():
        if k in case.grads:
            plain[k] = changed_rows(x, example.rows) * x.dtype.type(
                min(example.scale, case.large)
            )
        elif k == "where":
            plain[k] = rng.random(x.shape) < example.kept
        elif k == "weights":
            plain[k] = weights(rng, x, example.weights)
        elif x.dtype.kind == "b":
            plain[k] = mask(rng, x, example.positives)
        elif case.axes[k] == "n" and x.dtype.kind == "i":
            plain[k] = integers(rng, x, example.labels)
    garbage = {k: hidden(case, plain, k, example.garbage) for k in plain}
    out = {"plain": plain, "garbage": garbage}
    if n > 2:  # With fewer there may be no pair, so that nothing counts.
        out["nan"] = {**made, **poison(case, made, example.poisoned)}
    if case.reduces and case.permutes:
        out["shuffled"] = shuffled(case, plain)
    return out


def changed_rows(x, how):
    """The rows of an array after a change."""
    if how == "zero":
        return np.zeros_like(x)
    if how == "one zero":
        return np.concatenate([0 * x[:1], x[1:]])
    if how == "identical":
        return np.broadcast_to(x[:1], x.shape)
    if how == "opposite":
        signs = np.where(np.arange(len(x)) % 2, -1, 1).astype(x.dtype)
        return signs.reshape(-1, *[1] * (x.ndim - 1)) * x[:1]
    return x


def weights(rng, x, how):
    """Weights of the anchors."""
    drawn = rng.random(x.shape)
    made = {"ones": x, "zero": 0 * x, "some": drawn < 0.5, "uneven": drawn}
    return made[how].astype(x.dtype)


def mask(rng, x, how):
    """A mask of positives or negatives."""
    made = {"made": x, "none": x & False, "all": x | True}
    return made[how] if how in made else rng.random(x.shape) < 0.5


def integers(rng, x, how):
    """Labels among those that were there."""
    made = {"made": x, "same": np.full_like(x, x[0]), "random": rng.choice(x, x.shape)}
    return made[how]


def axes_of(case, name):
    """The axes of any argument."""
    if name == "where":
        return case.where
    if name == "weights":
        two_views = any("2n" in axes.split() for axes in case.axes.values())
        return "2n" if two_views else "n"
    return case.axes[name]


def out_of_sight(case, given, name):
    """Where the mask hides all that an entry of an argument stands for."""
    x, axes = given[name], axes_of(case, name).split()
    if not case.where or x.dtype.kind != "f" or name == "weights":
        return np.zeros(x.shape, bool)
    where, words = given["where"], case.where.split()
    if len(words) == 1:
        # Rows: an entry is out of sight when any of its rows is.
        out = np.zeros(x.shape, bool)
        for axis, word in enumerate(axes):
            if word == words[0]:
                shape = [-1 if i == axis else 1 for i in range(x.ndim)]
                out = out | ~where.reshape(shape)
        return out
    return ~where if axes == words else np.zeros(x.shape, bool)


def hidden(case, given, name, garbage):
    """An argument with something senseless where the mask hides it."""
    x, out = given[name], out_of_sight(case, given, name)
    return np.where(out, x.dtype.type(garbage), x) if out.any() else x


def poison(case, made, which):
    """One argument with a NaN in all entries of one anchor or candidate."""
    name = case.grads[which % len(case.grads)]
    x, axes = made[name].copy(), case.axes[name].split()
    able = [word for word in axes if word in ("n", "2n", "m", "2m")] or axes
    word, place = able[which // 2 % len(able)], which // 4
    # Also as a column, where the same examples are both.
    for axis in [i for i, other in enumerate(axes) if other == word]:
        index = [slice(None)] * x.ndim
        index[axis] = place % x.shape[axis]
        x[tuple(index)] = np.nan
    return {name: x}


def shuffled(case, given):
    """The anchors in another order."""
    picks = battery.reorder(case, given)
    return {k: battery.take(x, axes_of(case, k), picks) for k, x in given.items()}


def stacked(made):
    """All inputs of some examples, one after the other."""
    return [given for inputs in made for given in inputs.values()]


def check_all(case, examples, made, out):
    """What holds for the results of `stacked` inputs."""
    i = 0
    for example, given in zip(examples, made, strict=True):
        outs = {}
        for what in given:
            outs[what] = jax.tree.map(lambda x, i=i: x[i], out)
            i += 1
        check(case, example, given, outs)


def check(case, example, given, outs):
    """What holds for the results of one example."""
    plain, garbage = outs["plain"], outs["garbage"]
    assert battery.all_finite(plain), f"not finite: {plain}"
    battery.assert_close(garbage, plain)
    for k, grad in garbage.grads.items():
        assert not grad[out_of_sight(case, given["plain"], k)].any(), "leaks a gradient"
    nothing = case.where and not given["plain"]["where"].any()
    if nothing or (case.reduces and example.weights == "zero"):
        battery.assert_zero(plain)
    if "nan" in outs:
        seen = given["nan"]
        assert np.isnan(outs["nan"].loss), "a NaN is hidden from the loss"
        # A NaN, or what times the NaN of the embeddings behind it is one.
        grads = outs["nan"].grads
        traces = [
            np.isnan(g) | (np.isnan(seen[k]) & (g != 0)) for k, g in grads.items()
        ]
        assert any(trace.any() for trace in traces), "a NaN is hidden from the gradient"
    if "shuffled" in outs:
        order = battery.reorder(case, given["plain"])
        rows = order["n"] if len(plain.each) == len(order["n"]) else order["2n"]
        battery.assert_close(outs["shuffled"].loss, plain.loss, rtol=1e-4)
        battery.assert_close(outs["shuffled"].each, plain.each[rows], rtol=1e-4)
