"""One contract for every measure: errors, widths of integers, NaN, range.

`CASES` says how each is called. Measures on the host take integers of any size; those
of jax refuse what does not fit into 32 bits.
"""

import dataclasses
import inspect
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import evaluation

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(2, 12, 4)).astype(np.float32)
LABELS = np.arange(12) % 3
CLUSTERS = np.where(np.arange(12) < 9, LABELS, 0)
MASK = LABELS == 0
LISTS = np.round(RNG.normal(size=(6, 5))).astype(np.float32)
GRADES = RNG.integers(0, 4, (6, 5))
GRADES[:, 1] = 2
INDICES = np.stack([RNG.permutation(9)[:5] for _ in range(6)])
RELEVANT = np.stack([RNG.permutation(9)[:3] for _ in range(6)])
POSE = RNG.normal(size=(2, 4, 5, 3)).astype(np.float32)
INF, KEY = math.inf, jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Case:
    """How to call a measure, and what is promised of it.

    Attributes:
      inputs: its arrays by name.
      options: everything else.
      low: least value of what it returns.
      high: greatest.
      names: arrays of identifiers, which can be renamed together.
      integers: arrays of integers whose size matters, and of identifiers of jax.
      nan: what a NaN in each array of reals does: "raises", or the value it gives.
      host: computed in numpy.
      corners: other inputs, which must also be in range.
    """

    inputs: dict[str, np.ndarray]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    low: float = 0.0
    high: float = 1.0
    names: tuple[str, ...] = ()
    integers: tuple[str, ...] = ()
    nan: str | float = math.nan
    host: bool = True
    corners: tuple[dict[str, np.ndarray], ...] = ()


def pairs(**changes):
    """A measure of two sets of features."""
    same = dict(zip(changes.pop("arrays"), (X, X), strict=True))
    inputs = dict(zip(same, (X, Y), strict=True))
    corners = (same, {k: np.ones_like(X) for k in same}, {k: 0 * X for k in same})
    return Case(inputs, corners=corners, **changes)


def of_embeddings(**changes):
    corners = ({"x": np.ones_like(X)}, {"x": np.eye(12, 4, dtype=np.float32)})
    return Case({"x": X}, host=False, **({"corners": corners} | changes))


def of_clusters(low=0.0, **more):
    return Case(
        {"clusters": CLUSTERS, "labels": LABELS, **more},
        low=low,
        names=("clusters", "labels"),
        corners=(
            {"clusters": LABELS},
            {"clusters": 0 * LABELS},
            {"clusters": np.arange(12)},
            {"clusters": 0 * LABELS, "labels": 0 * LABELS},
        ),
    )


def of_lists(**changes):
    perfect = GRADES.astype(np.float32)
    return Case(
        {"scores": LISTS, "relevance": GRADES, "where": np.ones((6, 5), bool)},
        integers=("relevance",),
        host=False,
        corners=(
            {"scores": perfect},
            {"scores": -perfect},
            {"scores": 0 * LISTS},
            {"relevance": 0 * GRADES},
            {"relevance": np.ones((6, 5))},
        ),
        **changes,
    )


def of_sides(**changes):
    return Case(
        {"in_scores": X[:, 0], "out_scores": Y[:9, 0]},
        nan="raises",
        corners=(
            {"in_scores": np.full(4, INF)},
            {"in_scores": np.full(4, -INF)},
            {"in_scores": np.zeros(4), "out_scores": np.zeros(7)},
            {"in_scores": np.array([3, 200], np.uint8)},
        ),
        **changes,
    )


def of_numbers():
    return Case(
        {"x": X[:, 0], "y": Y[:, 0]},
        low=-1,
        corners=(
            {"x": Y[:, 0]},
            {"x": 1e300 * X[:, 0].astype(float)},
            {"x": 1e-300 * X[:, 0].astype(float)},
            {"x": np.ones(12)},
            {"x": np.ones(1), "y": np.ones(1)},
        ),
    )


def of_texts(**changes):
    tokens = np.tile(CLUSTERS, (3, 1))
    corners = ({"tokens": 0 * tokens}, {"where": np.zeros((3, 12), bool)})
    inputs = {"tokens": tokens, "where": np.ones((3, 12), bool)}
    return Case(inputs, names=("tokens",), corners=corners, **changes)


def of_probes(labels):
    return Case(
        {"train": X, f"train_{labels}": LABELS, "test": X, f"test_{labels}": LABELS},
        {"strengths": (0.1,)},
        high=2,  # its predictions
        names=(f"train_{labels}", f"test_{labels}"),
        nan="raises",
    )


def of_poses(**changes):
    inputs = {
        "predictions": POSE[0],
        "targets": POSE[1],
        "where": np.ones((4, 5), bool),
    }
    corners = (
        {"predictions": POSE[1]},
        {"where": np.zeros((4, 5), bool)},
        {"predictions": 0 * POSE[0]},
    )
    return Case(inputs, host=False, corners=corners, **changes)


CASES: dict[str, Case] = {
    "adjusted_rand_index": of_clusters(low=-0.5),
    "alignment": pairs(arrays=("x", "y"), high=4 + 1e-5, host=False),
    "argmax_keypoints": Case({"heatmaps": RNG.normal(size=(2, 3, 4, 5))}, host=False),
    "aupr_in": of_sides(),
    "aupr_out": of_sides(),
    "auroc": of_sides(),
    "average_cosine": of_embeddings(low=-1 - 1e-5, high=1 + 1e-5),
    "average_precision": of_lists(),
    "best_f1": Case(
        {"scores": np.abs(X[:, 0]) % 1, "labels": MASK},
        nan="raises",
        corners=({"scores": np.zeros(12)}, {"labels": ~MASK | MASK}),
    ),
    "binary_f1": Case(
        {"predictions": MASK, "labels": LABELS == 1},
        corners=({"predictions": LABELS == 1}, {"labels": ~MASK & MASK}),
    ),
    "coherence": Case(
        {"log_probs": -np.abs(X), "where": np.ones((12, 4), bool)},
        low=-INF,
        high=0,
        corners=({"log_probs": 0 * X}, {"where": np.zeros((12, 4), bool)}),
    ),
    "collapse_std": of_embeddings(high=1 + 1e-5),
    "continual_metrics": Case({"accuracies": RNG.uniform(size=(4, 4))}, low=-1),
    "dcg": of_lists(high=INF),
    "diversity": of_texts(),
    "effective_rank": of_embeddings(high=4 + 1e-3),
    "energy_scores": Case({"logits": X}, low=-INF, high=INF, nan="raises"),
    "fpr_at_tpr": of_sides(),
    "gold_ranks": Case(
        {"queries": X, "candidates": Y, "gold": LABELS},
        low=1,
        high=12,
        integers=("gold",),
        host=False,
        corners=({"queries": 0 * X}, {"candidates": X, "gold": np.arange(12)}),
    ),
    "hit_rate": of_lists(options={"k": 2}),
    "hungarian_accuracy": of_clusters(),
    "isotropy": of_embeddings(high=1 + 1e-5),
    "judged_lists": Case(
        {"scores": LISTS, "indices": INDICES, "relevant": RELEVANT},
        low=-INF,
        high=5,
        names=("indices", "relevant"),
    ),
    "kmeans": Case(
        {"x": X},
        {"rng": KEY, "k": 3, "restarts": 2},
        low=-INF,
        high=INF,
        nan="raises",
    ),
    "knn_classify": Case(
        {"train": X, "train_labels": LABELS, "test": Y},
        {"k": 3, "num_classes": 3},
        high=2,
        integers=("train_labels",),
        nan=-1,
        host=False,
        corners=({"train": 0 * X}, {"test": 0 * X}),
    ),
    "knn_scores": pairs(
        arrays=("train", "queries"), options={"k": 3}, low=-2, high=0, nan="raises"
    ),
    "linear_probe": of_probes("labels"),
    "macro_f1": Case(
        {"predictions": CLUSTERS, "labels": LABELS},
        names=("predictions", "labels"),
        corners=({"predictions": LABELS}, {"predictions": 9 + 0 * LABELS}),
    ),
    "mahalanobis_scores": pairs(
        arrays=("train", "queries"), low=-INF, high=0, nan="raises"
    ),
    "map_at_r": of_lists(),
    "match_clusters": dataclasses.replace(of_clusters(), low=-1, high=2),
    "mauve": pairs(
        arrays=("generated", "real"), options={"rng": KEY, "k": 3}, nan="raises"
    ),
    "mpjpe": of_poses(high=INF),
    "ndcg": of_lists(),
    "nearest_neighbor_accuracy": pairs(arrays=("generated", "real"), nan="raises"),
    "normalized_mutual_information": of_clusters(),
    "numerical_rank": of_embeddings(high=4, nan="any"),
    "ood_metrics": of_sides(),
    "pass_at_k": Case(
        {"num_correct": np.array([0, 1, 5])},
        {"num_samples": 5, "k": 2},
        integers=("num_correct",),
    ),
    "pck": of_poses(options={"threshold": 1.0}),
    "pck_auc": of_poses(options={"thresholds": [0.5, 1.0, 3.0]}),
    "pearson": of_numbers(),
    "plane": Case({"features": X}, low=-INF, high=INF, nan="any", host=False),
    "precision": of_lists(options={"k": 2}),
    "r_precision": of_lists(),
    "recall": of_lists(options={"k": 2}),
    "reciprocal_rank": of_lists(),
    "repetition": of_texts(options={"n": 2}),
    "ridge_probe": of_probes("targets"),
    "softmax_confidence": Case({"logits": X}, low=0.25, high=1, nan="raises"),
    "spearman": of_numbers(),
    "split_cluster_accuracy": of_clusters(old=MASK),
    "sts_correlations": Case(
        {"a": X, "b": Y, "gold": Y[:, 0]}, low=-1, corners=({"a": 0 * X}, {"b": X})
    ),
    "token_isotropy": Case(
        {"hidden": POSE[0], "where": np.ones((4, 5), bool)},
        low=-4 * 5,
        high=4 * 5 * 4 + 1e-4,
        host=False,
        corners=(
            {"hidden": np.ones_like(POSE[0])},
            {"hidden": 0 * POSE[0]},
            {"where": np.zeros((4, 5), bool)},
        ),
    ),
    "truthfulqa_mc": Case(
        {"scores_true": X[:3, 0], "scores_false": X[3:7, 0]},
        nan="raises",
        corners=(
            {"scores_true": 1e3 * X[:3, 0]},
            {"scores_true": -1e3 + X[:3, 0], "scores_false": -1e3 + X[3:7, 0]},
            {"scores_true": X[3:7, 0]},
        ),
    ),
    "uniformity": of_embeddings(low=-8, high=1e-5),
    "unigram_entropy": Case(
        {"tokens": LABELS.reshape(3, 4)}, high=math.log(4), names=("tokens",)
    ),
}
CASES["argmax_keypoints"] = dataclasses.replace(
    CASES["argmax_keypoints"], high=INF, low=-INF
)
every_measure = pytest.mark.parametrize("name", CASES)


def call(name: str, **changes):
    """What a measure returns, as one array of all its numbers."""
    case = CASES[name]
    out = getattr(evaluation, name)(**(case.inputs | case.options | changes))
    return np.concatenate([np.ravel(x).astype(float) for x in jax.tree.leaves(out)])


def arrays(name: str, *kinds: Callable[[Any], bool]):
    return [(k, v) for k, v in CASES[name].inputs.items() if any(f(v) for f in kinds)]


def is_float(x):
    return np.issubdtype(x.dtype, np.floating)


def is_integer(x):
    return np.issubdtype(x.dtype, np.integer)


def test_every_exported_measure_has_a_case():
    functions = {
        name
        for name in evaluation.__all__
        if inspect.isroutine(getattr(evaluation, name))
    }
    assert set(CASES) == functions


@every_measure
def test_values_are_in_the_documented_range(name):
    case = CASES[name]
    for changes in ({}, *case.corners):
        got = call(name, **changes)
        assert got.size and not np.any(np.isnan(got)), changes
        if name == "judged_lists" or name == "best_f1":
            continue  # places, grades, masks; a threshold
        assert case.low <= np.min(got) and np.max(got) <= case.high, changes


@pytest.mark.parametrize("name", CASES)
def test_wrong_shapes_and_types_are_named(name, without_type_hooks):
    inputs = CASES[name].inputs
    named = f"^({'|'.join(inputs)}): "
    for key, value in inputs.items():
        for wrong in (value[:0], value[None], value[..., :0]):
            with pytest.raises(ValueError, match=named):
                call(name, **{key: wrong})
        with pytest.raises(TypeError, match=f"^{key}: "):
            call(name, **{key: value.astype(complex)})


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.nan != "any"])
def test_nan_has_the_documented_effect(name):
    case = CASES[name]
    for key, value in arrays(name, is_float):
        wrong = np.array(value)
        wrong[(-1,) + (0,) * (value.ndim - 1)] = np.nan
        if case.nan == "raises":
            with pytest.raises(ValueError, match=f"^{key}: expected .* got NaN"):
                call(name, **{key: wrong})
        elif math.isnan(case.nan):
            assert np.any(np.isnan(call(name, **{key: wrong}))), key
        else:
            assert case.nan in call(name, **{key: wrong}), key


@every_measure
def test_integers_of_every_width(name, without_type_hooks):
    case, want = CASES[name], call(name)
    kept = case.names + case.integers
    for dtype in (np.int8, np.uint8, np.int32, np.uint32, np.int64, np.uint64):
        changes = {key: case.inputs[key].astype(dtype) for key in kept}
        np.testing.assert_array_equal(call(name, **changes), want)
    # Names do not matter, however big.
    odd = {key: 2**40 * (case.inputs[key] % 2) for key in case.names}
    renamed = {key: case.inputs[key] + odd[key] for key in case.names}
    got = call(name, **renamed)
    np.testing.assert_array_equal(np.where(got < 2**39, got, got - 2**40), want)
    # One that differs in its high bits only is another.
    if "clusters" not in case.inputs:
        for key in case.names[1:]:
            assert np.any(call(name, **{key: renamed[key]}) != want)


@every_measure
def test_numbers_that_do_not_fit_are_refused(name, without_type_hooks):
    case = CASES[name]
    for key in case.integers:
        wrong = case.inputs[key].astype(np.int64)
        wrong[(0,) * wrong.ndim] += 2**32
        with pytest.raises(ValueError, match=f"^{key}: "):
            call(name, **{key: wrong})
    for key in case.names:
        wrong = case.inputs[key].astype(np.uint64)
        wrong[(0,) * wrong.ndim] += np.uint64(2**63)
        with pytest.raises(ValueError, match=f"^{key}: expected integers below 2"):
            call(name, **{key: wrong})


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.host])
def test_measures_of_the_host_say_that_they_cannot_be_traced(name, without_type_hooks):
    case = CASES[name]
    key = next(iter(case.inputs))
    with pytest.raises(TypeError, match=f"^{key}: .* on the host"):
        jax.jit(lambda x: call(name, **{key: x}))(jnp.asarray(case.inputs[key]))
