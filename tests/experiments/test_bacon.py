"""BaCon: the long tail and its labels, batches, accuracies under one match."""

import numpy as np

from experiments.bacon import config as configs
from experiments.bacon import data, measure


def test_half_of_the_rows_of_known_classes_are_labelled():
    config = configs.get_config("smoke")
    tail = data.long_tail(config)
    counts = np.bincount(tail.label)
    assert counts.tolist() == tail.sizes.tolist() and counts[0] == counts[5] == 100
    assert counts[4] == counts[9] == 20
    told = np.bincount(tail.label[tail.labelled], minlength=10)
    assert told[:5].tolist() == np.ceil(counts[:5] / 2).tolist() and not told[5:].any()


def test_batches_are_half_labelled_whatever_device_sees_them():
    config = configs.get_config("smoke")
    batch = next(data.batches(config, 3))
    known = batch["label"] >= 0
    assert len(known) == config.data.batch_size
    np.testing.assert_array_equal(known, np.arange(len(known)) % 2 == 0)
    assert batch["label"].max() < config.data.known
    source = data.batches(config, 0)
    for _ in range(3):
        next(source)
    again = next(source)
    np.testing.assert_array_equal(again["image"], batch["image"])


def test_accuracies_of_parts():
    label = np.array([0, 0, 1, 2])
    parts = {"all": label >= 0, "known": label < 2, "new": label >= 2}
    sizes = np.array([[3.0, 2.0, 1.0], [30, 20, 10]])
    given = measure.Predicted(np.array([0, 1, 1, 0]), label, parts, sizes)
    got = measure.evaluate({"x": given})
    np.testing.assert_allclose(
        [got[f"x/{key}"] for key in parts], [50, 200 / 3, 0], rtol=1e-6
    )
    np.testing.assert_allclose(got["x/size_correlation"], 1, rtol=1e-5)
