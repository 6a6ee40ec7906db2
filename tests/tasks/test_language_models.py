"""Answers scored by teacher forcing: against one pass per token, in any batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.tasks import language_models as lms
from tests.language import word_model

WORDS = ("?", "the", "capital", "of", "France", "is", "Paris", "Port", "Louis")
SIZES = dict(width=16, depth=2, heads=2, mlp_width=16, max_length=16)


@pytest.fixture(scope="module")
def language():
    return word_model(WORDS, **SIZES)


def test_words_are_read_and_written(language):
    ids = language.encode("the capital of Spain is")
    assert ids.tolist() == [1, 2, 3, 0, 5]
    assert language.decode([6, 5]) == "Paris is"


def test_scores_equal_one_pass_per_token(language):
    """Prompts and answers of different lengths, the last batch not full."""
    prompts, answers = [[1, 2, 3, 4, 5], [4, 5], [1]], [[6], [7, 8], [6, 7, 8]]
    forced = lms.force(prompts, answers)

    @jax.jit
    def score(forced):
        said = lms.read_answers(language.model, language.variables, forced, (1, 2))
        both = (said.logits, said.early[0], said.early[1])
        return [lms.answer_scores(jax.nn.log_softmax(x, axis=-1), forced) for x in both]

    last, first_block, same = lms.in_batches(score, forced, 2)
    want = []
    for prompt, answer in zip(prompts, answers, strict=True):
        total = 0.0
        for i, token in enumerate(answer):
            read = jnp.asarray([[*prompt, *answer[:i]]])
            out = language.model.apply(language.variables, read)
            logits = language.model.apply(
                language.variables, out.last[0, -1], method="logits"
            )
            total += float(jax.nn.log_softmax(logits)[token])
        want.append(total)
    np.testing.assert_allclose(last, want, rtol=1e-4)
    # The last block's output, normalized and read out, is the model itself.
    np.testing.assert_allclose(same, last, rtol=1e-5)
    assert np.abs(first_block - last).max() > 1e-3


def test_filtered_tokens_and_what_is_refused():
    forced = lms.force([[1], [2, 3]], [[0], [1, 1]])
    scores = jnp.zeros((2, 2, 2)).at[0, 1, 0].set(-jnp.inf)
    assert lms.answer_scores(scores, forced, filtered=-7.0).tolist() == [-7.0, 0.0]
    with pytest.raises(ValueError, match=r"^prompts: expected .*\(1\)"):
        lms.force([[1], [2]], [[1]])
    with pytest.raises(ValueError, match=r"^prompts: expected"):
        lms.force([[]], [[1]])
    with pytest.raises(ValueError, match=r"^rows: expected prompts of a token"):
        lms.force([[1]], [[]])
