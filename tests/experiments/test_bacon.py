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


def test_rows_to_choose_on_are_not_trained_on():
    config = configs.get_config("smoke")
    trained = {x.tobytes() for x in data.long_tail(config).image}
    config.eval.split, config.eval.rows = "held_out", 0
    image, label = data.asked_rows(config)
    assert set(label) == set(range(10))
    assert not trained & {x.tobytes() for x in image}


def test_images_from_disk_make_a_tail(monkeypatch):
    """As the paper variant reads them: by size, from a TFDS folder."""
    config = configs.get_config("paper")
    config.data.update(largest=6, ratio=3.0)
    label = np.repeat(np.arange(100, dtype=np.int32), 6)
    image = np.zeros((600, 32, 32, 3), np.uint8)

    def one_pass(name, split, *, data_dir, size, **_):
        assert (name, split, size) == ("cifar100", "train", 32) and data_dir
        yield from zip(np.split(image, 2), np.split(label, 2), strict=True)

    monkeypatch.setattr(data.sets, "one_pass", one_pass)
    tail = data.long_tail(config)
    assert tail.sizes[[0, 79, 80, 99]].tolist() == [6, 2, 6, 2]
    assert tail.image.shape == (tail.sizes.sum(), 32, 32, 3)
    assert tail.labelled[tail.label < 80].any() and not tail.labelled[-1]


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
