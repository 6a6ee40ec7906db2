"""Contract cases of losses/noncontrastive.py."""

from contrastive_jax import losses

from .cases import Case, unit


def two_views(rng, n):
    return {"a": rng.normal(size=(n, 2)), "b": rng.normal(size=(n, 2))}


def unit_views(rng, n):
    return {k: unit(x) for k, x in two_views(rng, n).items()}


def predicted(rng, n):
    return {"predictions": rng.normal(size=(n, 3)), "targets": rng.normal(size=(n, 3))}


def gathered_views(a, b, gather, rows):
    return {"a": gather(a), "b": gather(b)}


VIEWS = {"a": "n d", "b": "n d"}
PREDICTED = {"predictions": "n d", "targets": "n d"}

CASES = {
    "byol": Case(losses.byol, PREDICTED, predicted, ("predictions",), where="n"),
    "simsiam": Case(losses.simsiam, PREDICTED, predicted, ("predictions",), where="n"),
    "simsiam/two_sided": Case(
        losses.simsiam,
        PREDICTED,
        predicted,
        ("predictions", "targets"),
        options={"stop_targets": False},
        where="n",
    ),
    "barlow_twins": Case(
        losses.barlow_twins,
        VIEWS,
        two_views,
        ("a", "b"),
        options={"off_diagonal": 0.3},
        where="n",
        reduces=False,
        gathered=gathered_views,
    ),
    "vicreg": Case(
        losses.vicreg,
        VIEWS,
        two_views,
        ("a", "b"),
        where="n",
        reduces=False,
        gathered=gathered_views,
    ),
    "w_mse": Case(
        losses.w_mse, VIEWS, two_views, ("a", "b"), where="n", gathered=gathered_views
    ),
    "w_mse/plain": Case(
        losses.w_mse,
        VIEWS,
        two_views,
        ("a", "b"),
        options={"normalize": False, "eps": 0.1},
        where="n",
    ),
    "alignment": Case(losses.alignment, VIEWS, unit_views, ("a", "b"), where="n"),
    "alignment/odd": Case(
        losses.alignment,
        VIEWS,
        unit_views,
        ("a", "b"),
        options={"alpha": 1.0},
        where="n",
    ),
    "uniformity": Case(
        losses.uniformity,
        {"x": "n d"},
        lambda rng, n: {"x": unit(rng.normal(size=(n, 3)))},
        ("x",),
        where="n",
        reduces=False,
        gathered=lambda a, b, gather, rows: {"x": gather(a)},
    ),
    "koleo": Case(
        losses.koleo,
        {"x": "n d"},
        lambda rng, n: {"x": rng.normal(size=(n, 3))},
        ("x",),
        where="n",
        gathered=lambda a, b, gather, rows: {"x": gather(a)},
    ),
}
