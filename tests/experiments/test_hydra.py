"""Hydra: what of the recipe's data is not here; the gate and the relations of it."""

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax.data import images
from experiments.hydra import measure
from experiments.hydra.model import ClassPairGate


def stand_in(monkeypatch):
    """The names of the classes of CIFAR-10; those of the other sets stay."""
    names, real = tuple(map(str, range(10))), images.class_names

    def class_names(name, **place):
        return names if name == "cifar10" else real(name, **place)

    monkeypatch.setattr(images, "class_names", class_names)


def test_a_gate_does_not_know_which_class_comes_first():
    for fuse in ("mean", "product"):
        gate = ClassPairGate(4, 5, embedding=3, hidden=6, fuse=fuse)
        y1, y2 = jnp.array([0, 1, 2, 3]), jnp.array([3, 1, 0, 2])
        init = jax.jit(gate.init, static_argnames="train")
        variables = init(jax.random.key(0), y1, y2, train=False)
        apply = jax.jit(gate.apply, static_argnames="train")
        one = apply(variables, y1, y2, train=False)
        np.testing.assert_allclose(one, apply(variables, y2, y1, train=False))
        assert ((one > 0) & (one < 1)).all() and one.shape == (4, 5)
        assert np.ptp(one, axis=0).min() > 1e-4  # pairs differ


def test_relations_are_those_of_each_class_with_itself():
    rng = np.random.default_rng(0)
    own = rng.uniform(size=(3, 8))
    gate = rng.uniform(size=(3, 3, 8))
    gate[np.arange(3), np.arange(3)] = own
    gate[1, 1] = own[0]  # two classes with one gate
    found = measure.relations(gate)
    np.testing.assert_allclose(np.diagonal(found), 1)
    np.testing.assert_allclose(found[0, 1], 1)
    assert found[0, 2] < 0
    values = measure.spectrum(np.outer(rng.normal(size=9), own[0]) + own[1])
    assert values[0] == 1 and values[1] < 1e-6  # one direction, whatever the mean
