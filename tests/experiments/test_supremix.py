"""SupReMix: readers of sets, slices by density, order of labels, faces in a folder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from contrastive_jax import training
from contrastive_jax.data import DataMissing
from experiments.supremix import config as configs
from experiments.supremix import data, experiment, measure


def other_method(name):
    """The smoke config of a method that its run leaves out."""
    config = configs.get_config("smoke")
    assert name not in config.methods
    return training.config.changed(config, experiment.METHODS[name])


@pytest.mark.parametrize("name", ["rnc", "l1"])
def test_methods_that_the_smoke_run_leaves_are_built(name):
    config = other_method(name)
    state = jax.eval_shape(lambda: experiment.init(config))
    batch = {
        "x": jax.ShapeDtypeStruct((8, 32, 32, 1), jnp.uint8),
        "label": jax.ShapeDtypeStruct((8,), jnp.float32),
    }
    after, _ = jax.eval_shape(experiment.make_step(config), state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)


@pytest.mark.experiments
@pytest.mark.parametrize("name", ["rnc", "l1"])
def test_and_evaluated(name):
    config = other_method(name)
    batch = next(experiment.batches(config, 0))
    step = jax.jit(experiment.make_step(config))
    state, metrics = step(experiment.init(config), batch)
    results = experiment.evaluate(config, state)
    assert all(np.isfinite(x) for x in (*metrics.values(), *results.values()))
    assert ("head_mae" in results) == (name == "l1")


def rows_with(labels, features=None):
    """A split whose features are its labels on an arc, or the ones given."""
    labels = np.asarray(labels, np.float32)
    if features is None:
        angle = labels / labels.max()
        features = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return measure.Split(features.astype(np.float32), labels)


def test_turned_digits():
    found = data.load("angles", "", 200, 0.25)
    assert (found.train.total, found.held_out.total) == (150, 50)
    part = found.test.read(np.arange(40))
    assert part["x"].shape == (40, 32, 32, 1) and part["x"].dtype == np.uint8
    assert 0 <= part["label"].min() and part["label"].max() <= 90
    with pytest.raises(ValueError, match=r"data.sets: expected names of agedb, angles"):
        data.load("moons", "", 200, 0.0)


def test_rare_labels_are_those_of_empty_bins():
    train = np.repeat([0.5, 3.5, 9.5], [80, 15, 5])
    train = np.append(train, [0.0, 10.0])
    rare = measure.density_slices(train, np.array([0.4, 3.6, 9.9]))["rare"]
    np.testing.assert_array_equal(rare, [False, True, True])
    # Where every bin is as full, one of them is.
    even = measure.density_slices(np.arange(100.0), np.arange(100.0))
    assert 0 < even["rare"].sum() < 30 and (even["rare"] ^ even["common"]).all()


def test_order_of_labels():
    labels = np.linspace(0, 10, 40)
    ordered = rows_with(labels)
    assert measure.ordinality(ordered) > 0.999
    x, y = measure.ordinality_curve(ordered)
    assert (np.diff(x) > 0).all() and y[0] > 0.9 and y[-1] < -0.9
    shuffled = rows_with(np.random.default_rng(0).permutation(labels))
    shuffled = measure.Split(ordered.features, shuffled.label)
    assert abs(measure.ordinality(shuffled)) < 0.2


def test_readout_counts_in_the_unit_that_is_reported():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 3)).astype(np.float32)
    labels = 10 * features[:, 0] + rng.normal(size=300)
    train, test = (
        rows_with(labels[part], features[part])
        for part in (slice(200), slice(200, None))
    )
    found = measure.readout(train, test, 5.0, 5)
    assert 0.97 < found["r2"] < 1 and 3 < found["mae"] < 5
    assert found["mae_few_labels"] > found["mae"]
    count = measure.density_slices(train.label, test.label)["rare"].sum()
    mean = (count * found["mae_rare"] + (100 - count) * found["mae_common"]) / 100
    np.testing.assert_allclose(found["mae"], mean, rtol=1e-5)


def test_faces_of_a_folder(tmp_path):
    with pytest.raises(DataMissing, match=r"agedb.csv is not there: a CSV file"):
        data.read_faces(str(tmp_path))
    (tmp_path / "agedb.csv").write_text(
        "age,path,split\n31,a.png,train\n64,b.png,test\n18,b.png,val\n"
    )
    for name in "ab":
        Image.new("L", (30, 20), 200).save(tmp_path / f"{name}.png")
    train, test = data.read_faces(str(tmp_path))
    assert train.total == test.total == 1
    part = train.read(np.array([0]))
    assert part["x"].shape == (1, 224, 224, 3) and part["label"] == 31
    assert (part["x"] == 200).all()
