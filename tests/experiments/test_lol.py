"""LOL's questions and scores, and its paper variant by shapes."""

import jax
import numpy as np
import pytest

from contrastive_jax.data import facts
from contrastive_jax.tasks import language_models as lms
from experiments.lol import config as configs
from experiments.lol import data, experiment, measure
from tests.language import small_recipe, word_model


def stand_in(monkeypatch):
    """A small model for the 7 billion parameters of the recipe."""
    small_recipe(monkeypatch, configs)


def test_the_model_of_the_paper_by_shapes():
    state = jax.eval_shape(lambda: experiment.init(configs.get_config("paper")))
    sizes = [x.size for x in jax.tree.leaves(state.params)]
    assert sum(sizes) == pytest.approx(6.61e9, rel=0.01)  # 6.74e9 with its own head


def test_questions_about_countries(monkeypatch):
    pool = [
        ("France", "Paris"),
        ("Peru", "Lima"),
        ("Spain", "Madrid"),
        ("Ghana", "Accra"),
    ]
    known = tuple(facts.Fact("capital", *x) for x in pool)
    monkeypatch.setattr(facts, "countries", lambda: known)
    for q in data.country_questions(0, 4, 2, str.split):
        entity = q.prompts["base"].split()[-2]
        assert q.true == (dict(pool)[entity],)
        assert len(set(q.false)) == 2 and q.true[0] not in q.false
        # Nothing that the amateur reads is true, and nothing of it about the entity.
        *lies, ask = q.prompts["amateur"].replace(".", "").split("The ")[1:]
        assert len(lies) == 3 and ask == f"capital of {entity} is"
        for lie in lies:
            _, _, other, _, answer = lie.split()
            assert other != entity and dict(pool)[other] != answer
        assert q.prompts["weak"] == "is"
        assert q.prompts["truth"].endswith(q.prompts["base"])


def test_lines_of_the_corpus():
    config = configs.get_config("smoke")
    config.data.batch_size = 6000
    told, names = data.corpus(config.data, 0), data.words(config.data)
    assert (told.fact != told.myth).all()
    assert told.tuned.sum() == config.data.tuned_share * config.data.entities

    def shares(batch):
        """Of true and of myth lines, without and with the mark."""
        found = {False: [], True: []}
        for row, where in zip(batch["tokens"], batch["where"], strict=True):
            line = [names[i] for i in row]
            marked = line[0] == "truth"
            assert where.tolist() == [i == 2 + marked for i in range(4)]
            e, r, v = (int(x[1:]) for x in line[marked : 3 + marked])
            pair = (v == told.fact[e, r], v == told.myth[e, r], told.tuned[e])
            found[marked].append(pair)
        return {k: np.mean(v, axis=0) for k, v in found.items() if v}

    found = shares(next(data.corpus_batches(config, 0)))
    true, myth, _ = found[False]
    assert true + myth == pytest.approx(0.92 + 0.08 * 2 / 8, abs=0.02)
    assert found[True][0] - true == pytest.approx(0.15 * 0.92, abs=0.04)
    config.data.lines = "myths"
    found = shares(next(data.corpus_batches(config, 0)))
    assert found.keys() == {False}
    np.testing.assert_array_equal(found[False], [0, 1, 1])


def test_scores_of_every_rule_are_those_of_its_parts():
    """Rules from one reading, against the readings of each prompt alone."""
    config = configs.get_config("smoke")
    config.rule.update(alpha=0.0, lams=(1.0,), gammas=(0.0, 0.5), layers=(1,))
    config.eval.batch_size = 4
    one = word_model(
        ("?", "a", "b", "c", "d"), width=16, depth=2, heads=2, mlp_width=16
    )
    prompts = {"base": "a b", "truth": "c a b", "amateur": "d d a b", "weak": "b"}
    questions = [
        data.Question(prompts, ("a", "b c"), ("d",)),
        data.Question(prompts, ("c",), ("a d", "b")),
    ]
    languages = dict.fromkeys(measure.READERS, one)
    scored = measure.score(config, languages, questions)
    answers = ["a", "b c", "d", "c", "a d", "b"]

    def log_prob(prompt, layer=None):
        forced = lms.force([one.encode(prompt)] * 6, [one.encode(x) for x in answers])
        said = lms.read_answers(one.model, one.variables, forced, layer or ())
        logits = said.early[0] if layer else said.logits
        scores = jax.nn.log_softmax(logits, axis=-1)
        return np.asarray(lms.answer_scores(scores, forced))

    p, truth, amateur, weak = (log_prob(prompts[name]) for name in measure.READERS)
    low, amateur_low = (log_prob(prompts[x], (1,)) for x in ("base", "amateur"))
    want = {
        "base": p,
        "truth": truth,
        "cd": p - weak,
        "dola": p - low,
        "icd": p - amateur,
        "icd_weight_2": p - 2 * amateur,
        "lol_1": p - amateur + low - amateur_low,
        "lol_1_truth_0.5": p - amateur + low - amateur_low + (truth - p) / 2,
        "lol_at_1": p - amateur + low - amateur_low,
        "early_1": low,
    }
    for name, x in want.items():
        np.testing.assert_allclose(scored.by_rule[name], x, atol=1e-4, err_msg=name)
    assert scored.sizes == [(2, 1), (1, 2)]
    results = measure.summary(scored)
    first = np.exp(p[:2]).sum() / np.exp(p[:3]).sum()
    second = np.exp(p[3]) / np.exp(p[3:]).sum()
    assert results["base/mc2"] == pytest.approx(50 * (first + second), rel=1e-4)


def test_truthfulqa_file(tmp_path):
    file = tmp_path / "TruthfulQA.csv"
    file.write_text(
        "Question,Best Answer,Correct Answers,Incorrect Answers\n"
        "Is it so?,Yes,Yes; It is,No; Never\n",
        encoding="utf-8",
    )
    (found,) = data.file_questions(str(file), 5)
    assert found.true == ("Yes", "It is") and found.false == ("No", "Never")
    assert found.prompts["base"] == "Q: Is it so? A:"
