"""Questions with a true and some false answers, and prompts for each of four readers.

About countries, about a synthetic corpus in which myths are told, or from a file.
"""

import csv
import pathlib
from typing import NamedTuple

import numpy as np

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
        hallucinating amateur ("amateur") and of the weak model of CD ("weak").
      true: the right answers, the best one first.
      false: wrong answers.
    """

    prompts: dict[str, str]
    true: tuple[str, ...]
    false: tuple[str, ...]


# Countries


def country_questions(seed: int, num: int, num_false: int, encode) -> list[Question]:
    """Facts in an order that the seed draws, whether the model knows them or not.

    Answers have at most LONGEST tokens, by `encode`.

    False answers belong to other countries. The amateur is the model after three
    examples with false answers of the same relation, so that it goes on lying; the weak
    model of CD sees the last word of the prompt only.
    """
    known = [f for f in facts.countries() if len(encode(f" {f.answer}")) <= LONGEST]
    rng = np.random.default_rng(seed)
    questions = []
    for i in rng.permutation(len(known))[:num]:
        fact = known[i]
        pool = [f for f in known if f.relation == fact.relation]
        wrong = sorted({f.answer for f in pool} - {fact.answer})
        false = tuple(rng.choice(wrong, min(num_false, len(wrong)), replace=False))
        ask = facts.question(fact)
        lies = []
        while len(lies) < 3:
            a, b = (pool[j] for j in rng.integers(len(pool), size=2))
            if a.answer != b.answer and fact.entity != a.entity:
                lies.append(f"{facts.question(a)} {b.answer}.")
        example = facts.example(fact.relation)
        prompts = {
            "base": f"{example} {ask}",
            "truth": f"{TRUTHFUL} {example} {ask}",
            "amateur": f"{' '.join(lies)} {ask}",
            "weak": ask.rpartition(" ")[2],
        }
        questions.append(Question(prompts, (fact.answer,), tuple(map(str, false))))
    return questions


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
        yield {"tokens": tokens, "where": where}
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
        prompts = dict.fromkeys(("base", "amateur", "weak"), ask)
        prompts["truth"] = f"truth {ask}"
        questions.append(
            Question(prompts, (f"v{fact}",), tuple(f"v{x}" for x in false))
        )
    return questions


# A file


def file_questions(path: str, limit: int) -> list[Question]:
    """TruthfulQA.csv: Question, Best Answer, Correct Answers, Incorrect Answers.

    The amateur is asked for false answers; the weak model sees no question.
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
            "amateur": f"Answer every question with a false statement. {ask}",
            "weak": "A:",
        }
        others = [x for x in true if x != best]
        questions.append(Question(prompts, (best, *others), tuple(false)))
    return questions
