"""PALM: known and other classes are apart; outsiders take the shape of the others."""

import numpy as np

from experiments.palm import config as configs
from experiments.palm import data, measure


def test_known_and_other_classes_are_apart():
    config = configs.get_config("smoke")
    image, label = data.inside(config, "train")
    assert set(label) == set(range(6)) and len(image) == len(label)
    others = data.outside(config)["others"]
    _, test = data.inside(config, "test")
    whole = data.whole(config.data, "digits", "test", 0)[1]
    assert len(others) + len(test) == len(whole)
    assert len(others) == np.sum(whole >= 6)
    batch = next(data.batches(config, 0))
    assert batch["label"].max() < 6


def test_values_are_chosen_without_the_outsiders_of_the_test():
    """On rows held out of fewer classes, and on classes between."""
    config = configs.get_config("smoke")
    config.data.update(known=4, others=(4, 5))
    config.eval.split = "held_out"
    trained = {x.tobytes() for x in data.inside(config, "train")[0]}
    held, label = data.inside(config, "held_out")
    others = data.outside(config)["others"]
    image, classes = data.whole(config.data, "digits", "train", 0)
    asked = {x.tobytes() for x in image[(classes == 4) | (classes == 5)]}
    assert set(label) == set(range(4))
    assert not trained & {x.tobytes() for x in [*held, *others]}
    assert {x.tobytes() for x in others} == asked


def test_images_are_brought_to_one_shape():
    gray = np.full((2, 4, 4, 1), 60, np.uint8)
    color = np.zeros((2, 6, 6, 3), np.uint8)
    color[..., 1] = 200
    assert (data.resized(gray, (8, 8, 1)) == 60).all()
    as_color = data.resized(gray, (8, 8, 3))
    assert as_color.shape == (2, 8, 8, 3) and (as_color == 60).all()
    as_gray = data.resized(color, (3, 3, 1))
    assert as_gray.shape == (2, 3, 3, 1) and (abs(as_gray - 117.0) < 2).all()
    assert data.resized(gray, (4, 4, 1)) is gray


def test_measures_are_means_over_sets():
    inside = np.arange(100.0)
    outside = {"far": np.arange(-100.0, 0.0), "same": np.arange(100.0)}
    scores = {"x": measure.Scores(inside, outside, 70.0)}
    got = measure.evaluate(None, scores)
    assert got["x/auroc_far"] == 100 and got["x/fpr95_far"] == 0
    assert got["x/auroc"] == 75 and got["x/fpr95"] == 95 / 2
    assert got["x/accuracy"] == 70
