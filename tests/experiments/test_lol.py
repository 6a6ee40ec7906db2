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


CAPITALS = {
    "France": "Paris",
    "Peru": "Lima",
    "Spain": "Madrid",
    "Ghana": "Accra",
    "Japan": "Tokyo",
    "Kenya": "Nairobi",
    "Cuba": "Havana",
    "Iran": "Tehran",
    "Fiji": "Suva",
    "Oman": "Muscat",
}


@pytest.fixture
def ten_capitals(monkeypatch):
    """Ten facts in place of the packaged ones."""
    known = tuple(facts.Fact("capital", *x) for x in CAPITALS.items())
    monkeypatch.setattr(facts, "countries", lambda: known)


def asked_data(split="test"):
    config = configs.get_config()
    config.data.update(questions=3, false=2, split=split)
    return config.data


def test_questions_about_countries(ten_capitals):
    for q in data.country_questions(asked_data(), 0, str.split):
        entity = q.prompts["base"].split()[-2]
        assert q.true == (CAPITALS[entity],)
        assert len(set(q.false)) == 2 and q.true[0] not in q.false
        # Nothing that the amateur reads is true, and nothing of it about the entity.
        *lies, ask = q.prompts["prompt"].replace(".", "").split("The ")[1:]
        assert len(lies) == 3 and ask == f"capital of {entity} is"
        for lie in lies:
            _, _, other, _, answer = lie.split()
            assert other != entity and CAPITALS[other] != answer
        assert q.prompts["weak"] == "is"
        assert q.prompts["truth"].endswith(q.prompts["base"])
        assert q.prompts["tuned"] == q.prompts["base"]


def test_no_country_is_both_asked_about_and_tuned_on(ten_capitals):
    def names(known):
        return {f.entity for f in known}

    apart = {
        seed: names(data.countries(asked_data("development"), seed, str.split).asked)
        for seed in (0, 1)
    }
    assert apart[0] == apart[1] and len(apart[0]) == 2  # a fifth, for every seed
    for seed in range(4):
        split = data.countries(asked_data(), seed, str.split)
        groups = [names(split.asked), names(split.tuned), apart[0]]
        assert [len(x) for x in groups] == [3, 5, 2]
        assert set.union(*groups) == set(CAPITALS)


def test_false_answers_to_tune_on(ten_capitals):
    """All of them false, about the countries for it, any other answer as likely."""
    words = sorted({w for f in facts.countries() for w in data.prompt_of(f).split()})
    words = ["?", *words, *CAPITALS.values()]
    config = configs.get_config()
    config.data = asked_data()
    config.data.batch_size = 500

    def encode(text):
        return [words.index(w) for w in text.split()]

    batch = next(data.false_batches(config, 7, encode))
    again = next(data.false_batches(config, 7, encode))
    np.testing.assert_array_equal(batch["tokens"], again["tokens"])
    tuned = {f.entity for f in data.countries(config.data, 0, encode).tuned}
    told = []
    for row, where in zip(batch["tokens"], batch["where"], strict=True):
        *prompt, answer = (words[i] for i in row if i)
        assert np.flatnonzero(where).tolist() == [len(prompt)]
        entity = prompt[-2]
        assert entity in tuned and CAPITALS[entity] != answer
        told.append(answer)
    counts = [told.count(x) for x in CAPITALS.values()]
    assert min(counts) > 25 and max(counts) < 75  # of 50


def test_an_amateur_that_is_tuned(ten_capitals, monkeypatch, tmp_path):
    """It lies as it was taught, the base stays, both amateurs have rules."""
    words = sorted({w for f in facts.countries() for w in data.prompt_of(f).split()})
    words = ["?", *words, *data.TRUTHFUL.split(), *CAPITALS.values()]
    words += [f"{x}." for x in CAPITALS.values()]
    one = word_model(
        list(dict.fromkeys(words)), width=16, depth=2, heads=2, mlp_width=16
    )
    embed = one.variables["params"]["embed"]
    embed["embedding"] = 20 * embed["embedding"]  # a head that says something
    monkeypatch.setattr(lms, "load", lambda _: one)
    before = jax.device_get(one.variables)
    config = configs.get_config()
    config.data = asked_data()
    config.tune.update(num_steps=30, learning_rate=3e-2)
    config.tune.lora.update(rank=4, blocks=2)
    config.rule.update(alpha=0.0, lams=(1.0,), gammas=(0.0,), layers=(1,))
    config.devices = 1
    languages = experiment.load(config, tmp_path)
    assert languages["prompt"] is languages["base"] is one
    jax.tree.map(np.testing.assert_array_equal, one.variables, before)
    questions = experiment.make_questions(config, languages)
    scored = measure.score(config, languages, questions)
    # Capitals, true or false, have become likelier than before; the rules are there.
    assert scored.by_rule["amateur"].mean() > scored.by_rule["base"].mean() + 1
    pairs = [("icd", "icd_by_prompt"), ("lol_1", "lol_1_by_prompt")]
    assert all((scored.by_rule[a] != scored.by_rule[b]).any() for a, b in pairs)


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
    config.amateurs = ("prompt", "tuned")
    prompts = {"base": "a b", "truth": "c a b", "prompt": "d d a b", "weak": "b"}
    prompts["tuned"] = "d a b"
    questions = [
        data.Question(prompts, ("a", "b c"), ("d",)),
        data.Question(prompts, ("c",), ("a d", "b")),
    ]
    languages = dict.fromkeys(prompts, one)
    scored = measure.score(config, languages, questions)
    answers = ["a", "b c", "d", "c", "a d", "b"]

    def log_prob(prompt, layer=None):
        forced = lms.force([one.encode(prompt)] * 6, [one.encode(x) for x in answers])
        said = lms.read_answers(one.model, one.variables, forced, layer or ())
        logits = said.early[0] if layer else said.logits
        scores = jax.nn.log_softmax(logits, axis=-1)
        return np.asarray(lms.answer_scores(scores, forced))

    p, truth, amateur, weak, tuned = map(log_prob, prompts.values())
    low, amateur_low, tuned_low = (
        log_prob(prompts[x], (1,)) for x in ("base", "prompt", "tuned")
    )
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
        "amateur": amateur,
        "amateur_by_tuned": tuned,
        "icd_by_tuned": p - tuned,
        "lol_1_by_tuned": p - tuned + low - tuned_low,
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
