"""Captions as rows of token numbers."""

import numpy as np
import pytest

from contrastive_jax.data import vocabulary


def test_frequent_words_come_first_and_the_rest_is_unknown():
    captions = ["A red cat.", "red RED dog", "a cat"]
    built = vocabulary.build_vocabulary(captions, 6)
    assert built.words == ("[pad]", "[unknown]", "[end]", "red", "a", "cat")
    rows = built.encode(["a dog, red", "", "cat cat cat cat cat"], 4)
    np.testing.assert_array_equal(rows, [[4, 1, 3, 2], [2, 0, 0, 0], [5, 5, 5, 2]])
    assert rows.dtype == np.int32


def test_words_of_other_scripts_stay_whole():
    assert vocabulary.words("Côte d'Ivoire: 3-1 ☺ 日本_x") == [
        "côte",
        "d",
        "ivoire",
        "3",
        "1",
        "日本",
        "x",
    ]


def test_no_room_is_an_error():
    with pytest.raises(ValueError, match="size: expected at least 4, got 3"):
        vocabulary.build_vocabulary(["a"], 3)
    with pytest.raises(ValueError, match="length: expected at least 2 tokens, got 1"):
        vocabulary.build_vocabulary(["a"], 4).encode(["a"], 1)
