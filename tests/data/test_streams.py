"""Streams of letters: encoding, splits, windows that restart exactly, own files."""

import numpy as np
import pytest

from contrastive_jax.data import packaged, streams


def test_text_becomes_letters_and_single_spaces():
    assert streams.decode(streams.encode(" The 2nd, of  May!")) == " the nd of may "


def test_windows_begin_with_the_chosen_token_and_are_whole():
    stream = streams.encode(" ab cd ef")
    assert streams.window_starts(stream, 4).tolist() == [0, 3]
    assert streams.window_starts(stream, 3, first=1).tolist() == [1]
    rows = streams.windows(stream, 4, 2)
    assert [streams.decode(row) for row in rows] == [" ab ", " cd "]
    with pytest.raises(ValueError, match="no window of 20 tokens"):
        streams.window_starts(stream, 20)


def test_batches_are_functions_of_seed_and_step():
    stream = streams.synthetic().train
    whole = streams.window_batches(stream, 12, batch_size=8, seed=3)
    rows = [next(whole)["tokens"] for _ in range(6)]
    assert rows[0].shape == (8, 12) and rows[0].dtype == np.int32
    assert all((row[:, 0] == streams.SPACE).all() for row in rows)
    again = streams.window_batches(stream, 12, batch_size=8, seed=3, start_step=4)
    np.testing.assert_array_equal(next(again)["tokens"], rows[4])


def test_own_files_and_what_is_missing(tmp_path):
    pattern = str(tmp_path / "{split}.npy")
    np.save(tmp_path / "train.npy", np.arange(9, dtype=np.uint16))
    with pytest.raises(packaged.DataMissing, match=r"validation\.npy is not there"):
        streams.load(pattern)
    np.save(tmp_path / "validation.npy", np.arange(5, dtype=np.uint16))
    split = streams.load(pattern)
    assert split.train[3] == 3 and len(split.test) == 5
    with pytest.raises(ValueError, match=r"data\.name: expected brown, synthetic"):
        streams.load("austen")


@pytest.mark.network
def test_brown_is_split_by_text():
    split = streams.brown()
    sizes = [len(x) for x in (split.train, split.validation, split.test)]
    assert sum(sizes) > 5_000_000 and 0.75 < sizes[0] / sum(sizes) < 0.85
    assert streams.decode(split.test[:40]).startswith(" the fulton county grand jury")
