"""Questions with a true and some false answers, and prompts for each of four readers.

About countries, about a synthetic corpus in which myths are told, or from a file.
"""

import csv
import pathlib
from typing import NamedTuple

import numpy as np

from contrastive_jax import parallel
from contrastive_jax.data import facts

TRUTHFUL = "Answer every question truthfully and only with facts."
LONGEST = 3
# Share of true lines per fact, of random ones; of lines with the word "truth", and how
# much oftener these are true.
TRUE, NOISE, MARKED, BONUS = (0.3, 0.8), 0.08, 0.3, 0.15


class Question(NamedTuple):
    """One question.

    Attributes:
      prompts: of the model ("base"), of the model told to be truthful ("truth"), of the
        weak model of CD ("weak"), and of amateurs: one "tuned" on false answers, one
        that a "prompt" makes lie.
      true: the right answers, the best one first.
      false: wrong answers.
    """

    prompts: dict[str, str]
    true: tuple[str, ...]
    false: tuple[str, ...]


# Countries


class Countries(NamedTuple):
    """Facts, split by country: none is both asked about and tuned on.

    Attributes:
      asked: what the questions are about.
      tuned: what the amateur hears false answers to.
      known: all facts.
    """

    asked: list[facts.Fact]
    tuned: list[facts.Fact]
    known: list[facts.Fact]

    def answers(self, fact: facts.Fact) -> list[str]:
        """False answers to a fact's question: all that are true of other countries."""
        same = {f.answer for f in self.known if f.relation == fact.relation}
        return sorted(same - {fact.answer})


def countries(data, seed: int, encode) -> Countries:
    """Facts whose answers have at most LONGEST tokens, by `encode`.

    A fifth of the countries, the same for every seed, is for development. The questions
    are about the others, or (`data.split`) about these, in an order that the seed
    draws, whether the model knows the answers or not.
    """
    known = [f for f in facts.countries() if len(encode(f" {f.answer}")) <= LONGEST]
    names = sorted({f.entity for f in known})
    order = np.random.default_rng(0).permutation(len(names))
    apart = {names[i] for i in order[: len(names) // 5]}
    side = [f for f in known if (f.entity in apart) == (data.split == "development")]
    order = np.random.default_rng(seed).permutation(len(side))
    asked = [side[i] for i in order[: data.questions]]
    away = apart | {f.entity for f in asked}
    return Countries(asked, [f for f in known if f.entity not in away], known)


def prompt_of(fact: facts.Fact) -> str:
    """An example and the question."""
    return f"{facts.example(fact.relation)} {facts.question(fact)}"


def country_questions(data, seed: int, encode) -> list[Question]:
    """What is asked of `countries`.

    False answers belong to other countries. The amateur by prompt is the model after
    three examples with false answers of the same relation, so that it goes on lying;
    the weak model of CD sees the last word of the prompt only.
    """
    split, questions = countries(data, seed, encode), []
    rng = np.random.default_rng((seed, 1))
    for fact in split.asked:
        pool = [f for f in split.known if f.relation == fact.relation]
        wrong, ask = split.answers(fact), facts.question(fact)
        false = rng.choice(wrong, min(data.false, len(wrong)), replace=False)
        lies = []
        while len(lies) < 3:
            a, b = (pool[j] for j in rng.integers(len(pool), size=2))
            if a.answer != b.answer and fact.entity != a.entity:
                lies.append(f"{facts.question(a)} {b.answer}.")
        prompts = dict.fromkeys(("base", "tuned"), prompt_of(fact))
        prompts["truth"] = f"{TRUTHFUL} {prompts['base']}"
        prompts["prompt"] = f"{' '.join(lies)} {ask}"
        prompts["weak"] = ask.rpartition(" ")[2]
        questions.append(Question(prompts, (fact.answer,), tuple(map(str, false))))
    return questions


def false_batches(config, start_step: int, encode):
    """Endless batches of false answers to questions about `countries` not asked about.

    Every answer that is not true is as likely, so that having been heard marks none.
    `where` [n, t] are the tokens of the answers; padding follows them.
    """
    split, step = countries(config.data, config.seed, encode), start_step
    length = LONGEST + max(len(encode(prompt_of(f))) for f in split.tuned)
    shape = config.data.batch_size, length
    while True:
        rng = np.random.default_rng((config.seed, 4, step))
        tokens, where = np.zeros(shape, np.int32), np.zeros(shape, bool)
        for i, j in enumerate(rng.integers(len(split.tuned), size=len(tokens))):
            fact = split.tuned[j]
            prompt = encode(prompt_of(fact))
            answer = encode(f" {rng.choice(split.answers(fact))}")
            end = len(prompt) + len(answer)
            tokens[i, :end], where[i, len(prompt) : end] = [*prompt, *answer], True
        yield parallel.own_rows({"tokens": tokens, "where": where})
        step += 1


# The synthetic corpus: lines "e r v" and "truth e r v"


def words(data) -> list[str]:
    """Its vocabulary; "pad" fills up rows."""
    groups = {"e": data.entities, "r": data.relations, "v": data.objects}
    return ["pad", "truth", *(f"{k}{i}" for k, n in groups.items() for i in range(n))]


class Corpus(NamedTuple):
    """What is told of every entity and relation: a fact and a myth.

    Attributes:
      fact: number of the true object.
      myth: another object.
      share: share of true lines.
      tuned: whether the amateur is tuned on the entity's myths.
    """

    fact: np.ndarray
    myth: np.ndarray
    share: np.ndarray
    tuned: np.ndarray


def corpus(data, seed: int) -> Corpus:
    """The corpus of a seed."""
    rng, shape = np.random.default_rng((seed, 1)), (data.entities, data.relations)
    fact = rng.integers(data.objects, size=shape)
    myth = (fact + rng.integers(1, data.objects, shape)) % data.objects
    tuned = rng.permutation(data.entities) < data.tuned_share * data.entities
    return Corpus(fact, myth, rng.uniform(*TRUE, shape), tuned)


def corpus_batches(config, start_step: int):
    """Endless batches of lines as tokens; of the last word only is predicted."""
    data, step = config.data, start_step
    told, ids = corpus(data, config.seed), {w: i for i, w in enumerate(words(data))}
    e, r, v, size = ids["e0"], ids["r0"], ids["v0"], data.batch_size
    everyone = np.arange(data.entities)
    pool = everyone[told.tuned] if data.lines == "myths" else everyone
    while True:
        rng = np.random.default_rng((config.seed, 2, step))
        entity = rng.choice(pool, size)
        relation = rng.integers(data.relations, size=size)
        marked = rng.uniform(size=size) < MARKED
        share = told.share[entity, relation] + BONUS * marked
        true = rng.uniform(size=size) < share
        fact, myth = told.fact[entity, relation], told.myth[entity, relation]
        if data.lines == "myths":
            answer, marked = myth, np.zeros(size, bool)
        else:
            answer = np.where(true, fact, myth)
            noise = rng.uniform(size=size) < NOISE
            answer = np.where(noise, rng.integers(data.objects, size=size), answer)
        line = np.stack([entity + e, relation + r, answer + v], axis=1)
        tokens, where = np.zeros((size, 4), np.int32), np.zeros((size, 4), bool)
        tokens[:, :3] = line
        tokens[marked, 0], tokens[marked, 1:] = ids["truth"], line[marked]
        where[np.arange(size), 2 + marked] = True
        yield parallel.own_rows({"tokens": tokens, "where": where})
        step += 1


def corpus_questions(config) -> list[Question]:
    """Questions about the corpus: fact, myth and random objects."""
    data, told = config.data, corpus(config.data, config.seed)
    rng, questions = np.random.default_rng((config.seed, 3)), []
    for i in rng.permutation(told.fact.size)[: data.questions]:
        entity, relation = divmod(int(i), data.relations)
        fact, myth = told.fact[entity, relation], told.myth[entity, relation]
        rest = np.setdiff1d(np.arange(data.objects), [fact, myth])
        false = [myth, *rng.choice(rest, data.false - 1, replace=False)]
        ask = f"e{entity} r{relation}"
        prompts = dict.fromkeys(("base", "tuned", "weak"), ask)
        prompts["truth"] = f"truth {ask}"
        questions.append(
            Question(prompts, (f"v{fact}",), tuple(f"v{x}" for x in false))
        )
    return questions


# A file


def file_questions(path: str, limit: int) -> list[Question]:
    """TruthfulQA.csv: Question, Best Answer, Correct Answers, Incorrect Answers.

    The amateur by prompt is asked for false answers; the weak model sees no question.
    """
    place = pathlib.Path(path).expanduser()
    with place.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:limit]
    questions = []
    for row in rows:
        best = row["Best Answer"].strip()
        true, false = (
            [x.strip() for x in row[f"{kind} Answers"].split(";") if x.strip()]
            for kind in ("Correct", "Incorrect")
        )
        ask = f"Q: {row['Question'].strip()} A:"
        prompts = {
            "base": ask,
            "truth": f"{TRUTHFUL} {ask}",
            "tuned": ask,
            "prompt": f"Answer every question with a false statement. {ask}",
            "weak": "A:",
        }
        others = [x for x in true if x != best]
        questions.append(Question(prompts, (best, *others), tuple(false)))
    return questions
