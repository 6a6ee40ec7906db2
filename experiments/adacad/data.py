"""Questions with a context that contradicts memory, is about another, or agrees.

From a table of countries, from a synthetic knowledge base, or from a file. Only facts
that the model knows are asked for: those it completes rightly without a context.
"""

import json
import pathlib
from typing import NamedTuple

import numpy as np

from contrastive_jax import parallel
from contrastive_jax.data import facts

KINDS = ("conflict", "distractor", "agreement")
FOLLOWED, LEAKED = 0.45, 0.06  # conflicts followed, distractors leaking, in training


class Query(NamedTuple):
    """One question.

    Attributes:
      kind: one of KINDS.
      context: the prompt with the context.
      alone: the prompt without it.
      answer: what counts as right: what the context says in a conflict, else the fact.
    """

    kind: str
    context: str
    alone: str
    answer: str


def other(rng: np.random.Generator, pool: list, value, key=lambda x: x):
    """One of a pool whose value is another."""
    rest = [x for x in pool if key(x) != value]
    return rest[rng.integers(len(rest))]


# Countries


def alone(fact: facts.Fact) -> str:
    """A question about a country after an example of its kind."""
    return f"{facts.example(fact.relation)} {facts.question(fact)}"


def candidates(seed: int, encode, longest: int) -> list[facts.Fact]:
    """Facts with answers of at most so many tokens, in an order that the seed draws."""
    found = [f for f in facts.countries() if len(encode(" " + f.answer)) <= longest]
    return [found[i] for i in np.random.default_rng(seed).permutation(len(found))]


def country_queries(known: list[facts.Fact], seed: int) -> list[Query]:
    """Each fact with a context of each kind.

    Conflict: the answer of another country; distractor: a true sentence about another
    country with another answer; agreement: the fact itself.
    """
    rng, queries = np.random.default_rng((seed, 1)), []
    for fact in known:
        pool = [f for f in facts.countries() if f.relation == fact.relation]
        false = other(rng, pool, fact.answer, lambda f: f.answer).answer
        away = other(rng, pool, fact.answer, lambda f: f.answer)
        stated = {
            "conflict": (fact.entity, false),
            "distractor": (away.entity, away.answer),
            "agreement": (fact.entity, fact.answer),
        }
        for kind, (entity, answer) in stated.items():
            said = facts.statement(fact.relation, entity, answer)
            context = f"{facts.example(fact.relation)} {said} {facts.question(fact)}"
            right = false if kind == "conflict" else fact.answer
            queries.append(Query(kind, context, alone(fact), right))
    return queries


# The synthetic knowledge base: words "ask", "says", e0 .. r0 .. v0 ..


def words(data) -> list[str]:
    """Its vocabulary; "pad" fills up rows."""
    groups = {"e": data.entities, "r": data.relations, "v": data.objects}
    return [
        "pad",
        "says",
        "ask",
        *(f"{k}{i}" for k, n in groups.items() for i in range(n)),
    ]


def draw(data, seed: int, rng: np.random.Generator, size: int):
    """Questions as numbers: entity, relation, fact, another entity and its, a false."""
    table = np.random.default_rng(seed).integers(
        data.objects, size=(data.entities, data.relations)
    )
    entity = rng.integers(data.entities, size=size)
    relation = rng.integers(data.relations, size=size)
    away = (entity + rng.integers(1, data.entities, size)) % data.entities
    fact = table[entity, relation]
    false = (fact + rng.integers(1, data.objects, size)) % data.objects
    return entity, relation, fact, away, table[away, relation], false


def knowledge_batches(config, start_step: int):
    """Lines "says e r v ask e r v" of each kind, and without the context, as tokens.

    Of the last word only is predicted. Conflicts are followed in 45 % of the lines,
    distractors answered with in 6 %.
    """
    data, step = config.data, start_step
    size = data.batch_size
    ids = {word: i for i, word in enumerate(words(data))}
    e, r, v = ids["e0"], ids["r0"], ids["v0"]
    while True:
        rng = np.random.default_rng((config.seed, 2, step))
        entity, relation, fact, away, its, false = draw(data, config.seed, rng, size)
        kind, chance = rng.integers(4, size=size), rng.uniform(size=size)
        conflict, distractor = kind == 0, kind == 1
        said = np.where(conflict, false, np.where(distractor, its, fact))
        swayed = conflict & (chance < FOLLOWED) | distractor & (chance < LEAKED)
        about = np.where(distractor, away, entity)
        line = [
            np.full(size, ids["says"]),
            about + e,
            relation + r,
            said + v,
            np.full(size, ids["ask"]),
            entity + e,
            relation + r,
            np.where(swayed, said, fact) + v,
        ]
        tokens = np.stack(line, axis=1)
        where = np.zeros((size, 8), bool)
        # Without a context: the same at the left, and padding.
        closed = (kind == 3)[:, None]
        short = np.concatenate([tokens[:, 4:], np.zeros_like(tokens[:, 4:])], axis=1)
        where[:, 7], where[:, 3] = kind != 3, kind == 3
        tokens = np.where(closed, short, tokens).astype(np.int32)
        yield parallel.own_rows({"tokens": tokens, "where": where})
        step += 1


def knowledge_queries(config) -> list[Query]:
    """Test questions of each kind about the knowledge base."""
    rng, queries = np.random.default_rng((config.seed, 3)), []
    for kind in KINDS:
        drawn = draw(config.data, config.seed, rng, config.data.queries)
        for entity, relation, fact, away, its, false in np.stack(drawn, axis=1):
            about = away if kind == "distractor" else entity
            said = {"conflict": false, "distractor": its, "agreement": fact}[kind]
            ask = f"ask e{entity} r{relation}"
            right = false if kind == "conflict" else fact
            context = f"says e{about} r{relation} v{said} {ask}"
            queries.append(Query(kind, context, ask, f"v{right}"))
    return queries


# A file


def file_queries(path: str, limit: int) -> list[Query]:
    """Questions in the format of the released code of CAD and AdaCAD.

    Two lines for each, in JSON: "input_index"; "assigned_process", 0 with the context
    and 1 without; "context_string", the prompt; "gold_answers". (From memory.) A field
    "kind" may hold the kind; without it all are conflicts.
    """
    pairs: dict = {}
    text = pathlib.Path(path).expanduser().read_text(encoding="utf-8")
    for line in text.splitlines():
        row = json.loads(line)
        pairs.setdefault(row["input_index"], {})[row["assigned_process"]] = row
    queries = []
    for pair in list(pairs.values())[:limit]:
        gold = pair[0]["gold_answers"]
        answer = gold if isinstance(gold, str) else gold[0]
        prompts = (pair[i]["context_string"] for i in (0, 1))
        queries.append(Query(pair[0].get("kind", KINDS[0]), *prompts, answer))
    return queries
