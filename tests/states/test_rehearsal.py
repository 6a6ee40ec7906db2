"""The memory against a dict of lists, and which examples herding keeps."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import states


def test_memory_equals_a_dict_of_lists(transform):
    rng = np.random.default_rng(0)
    memory = states.rehearsal_init(4, 2, {"x": np.zeros(3, np.float32), "id": 0})
    store, known = transform(states.rehearsal_store), {c: [] for c in range(4)}
    for step in range(3):
        labels = rng.integers(-1, 5, 6)  # -1 and 4 are no classes
        new = {
            "x": rng.normal(size=(6, 3)).astype(np.float32),
            "id": 10 * step + np.arange(6),
        }
        memory = store(memory, new, jnp.asarray(labels))
        for c in set(labels) & set(known):
            known[c] = list(new["id"][labels == c][:2])
    rows, labels, filled = states.rehearsal_rows(memory)
    assert memory.counts.tolist() == [len(known[c]) for c in range(4)]
    for c in range(4):
        assert rows["id"][filled & (labels == c)].tolist() == known[c]
    assert rows["x"].shape == (8, 3) and rows["x"].dtype == jnp.float32


def test_examples_stay_with_their_parts():
    memory = states.rehearsal_init(2, 3, {"x": np.zeros(1, np.float32), "id": 0})
    ids = jnp.arange(4)
    new = {"x": ids[:, None].astype(jnp.float32), "id": ids}
    memory = states.rehearsal_store(memory, new, jnp.array([1, 0, 1, 1]))
    rows, _, filled = states.rehearsal_rows(states.rehearsal_trim(memory, 2))
    assert rows["id"][filled].tolist() == [1, 0, 2]
    np.testing.assert_array_equal(rows["x"][:, 0], rows["id"])


def test_quota():
    assert states.rehearsal_quota(10, seen_classes=3) == 3
    assert states.rehearsal_quota(10, seen_classes=3, total_classes=20) == 0
    with pytest.raises(ValueError, match=r"seen_classes: "):
        states.rehearsal_quota(10, seen_classes=0)


RNG = np.random.default_rng(1)
LABELS = np.array([5, 2, 5, 2, 5, 5, 2, 9])
FEATURES = RNG.normal(size=(8, 3))
HERDS = {
    "random": lambda k: states.herd_random(jax.random.key(0), LABELS, per_class=k),
    "nearest": lambda k: states.herd_nearest(FEATURES, LABELS, per_class=k),
    "barycenter": lambda k: states.herd_barycenter(FEATURES, LABELS, per_class=k),
}


@pytest.mark.parametrize("herd", HERDS.values(), ids=HERDS)
def test_herding_keeps_rows_of_each_class_best_first(herd):
    kept = herd(2)
    assert LABELS[kept].tolist() == [2, 2, 5, 5, 9]
    every = herd(8)
    assert sorted(every) == list(range(8))
    for c in (2, 5, 9):
        small, all_rows = kept[LABELS[kept] == c], every[LABELS[every] == c]
        np.testing.assert_array_equal(small, all_rows[: len(small)])


def test_random_herding_follows_its_key():
    labels = np.zeros(50, int)
    one, other = (
        states.herd_random(jax.random.key(k), labels, per_class=5) for k in (0, 1)
    )
    assert set(one) != set(other)


def test_barycenter_is_greedily_the_best():
    kept = HERDS["barycenter"](3)
    unit = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    for c in (2, 5):
        rows, mine = np.flatnonzero(LABELS == c), kept[LABELS[kept] == c]
        mean = unit[rows].mean(axis=0)
        for k in range(len(mine)):
            gaps = {
                row: np.linalg.norm(unit[[*mine[:k], row]].mean(axis=0) - mean)
                for row in rows
                if row not in mine[:k]
            }
            assert mine[k] == min(gaps, key=gaps.get)


def test_barycenter_keeps_a_better_mean_than_the_nearest():
    gaps = {}
    for name in ("nearest", "barycenter"):
        herd = getattr(states, f"herd_{name}")
        options = {} if name == "nearest" else {"normalize": False}
        x = np.random.default_rng(2).normal(size=(200, 4))
        kept = herd(x, np.zeros(200, int), per_class=10, **options)
        gaps[name] = np.linalg.norm(x[kept].mean(axis=0) - x.mean(axis=0))
    assert gaps["barycenter"] < 0.5 * gaps["nearest"]


def test_nearest_are_the_nearest_of_all_subsets():
    x, labels = FEATURES[:6], np.zeros(6, int)
    kept = states.herd_nearest(x, labels, per_class=2)
    gaps = np.linalg.norm(x - x.mean(axis=0), axis=1)
    best = min(
        itertools.combinations(range(6), 2), key=lambda pair: gaps[[*pair]].sum()
    )
    assert set(kept) == set(best)


def test_wrong_input_is_named(without_type_hooks):
    memory = states.rehearsal_init(2, 3, np.zeros(2, np.float32))
    with pytest.raises(ValueError, match=r"^examples: expected shape \[4, 2\]"):
        states.rehearsal_store(memory, jnp.zeros((4, 3)), jnp.zeros(4, int))
    with pytest.raises(TypeError, match=r"^labels: "):
        states.rehearsal_store(memory, jnp.zeros((4, 2)), jnp.zeros(4))
    with pytest.raises(ValueError, match=r"^labels: "):
        states.herd_nearest(FEATURES, LABELS[:3], per_class=1)
    with pytest.raises(ValueError, match=r"per_class: "):
        states.herd_barycenter(FEATURES, LABELS, per_class=0)
