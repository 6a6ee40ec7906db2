"""Multiple choice: by hand, where exponentials underflow, and what is refused."""

import numpy as np
import pytest

from contrastive_jax import evaluation


def test_by_hand():
    true, false = np.log([0.3, 0.1, 0.2]), np.log([0.15, 0.25])
    assert evaluation.truthfulqa_mc(true, false, 0) == pytest.approx((1, 0.6, 1 / 3))
    assert evaluation.truthfulqa_mc(true, false, 1) == pytest.approx((0, 0.6, 1 / 3))
    # A tie is not above.
    assert evaluation.truthfulqa_mc(np.zeros(1), np.zeros(1)) == (0.0, 0.5, 0.0)


def test_scores_far_from_zero():
    """Each side is halved until something is left of it; large scores are shifted."""
    mc1, mc2, _ = evaluation.truthfulqa_mc(np.array([-1000.0]), np.array([-600.0]))
    assert mc1 == 0.0 and mc2 == pytest.approx(1.0)  # exp(-500) against exp(-600)
    true, false = np.array([900.0, 1.0]), np.array([899.0])
    want = 1 / (1 + np.exp(-1))
    assert evaluation.truthfulqa_mc(true, false)[1] == pytest.approx(want)


def test_what_is_refused():
    one = np.zeros(1)
    with pytest.raises(ValueError, match=r"^scores_false: m must be at least 1"):
        evaluation.truthfulqa_mc(one, np.zeros(0))
    with pytest.raises(ValueError, match=r"^scores_true: expected"):
        evaluation.truthfulqa_mc(np.array([-np.inf]), one)
    with pytest.raises(ValueError, match=r"^best_index: expected 0 to 0, got 1"):
        evaluation.truthfulqa_mc(one, one, 1)
