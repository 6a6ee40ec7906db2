"""Facts about countries, and the sentences that ask for them and state them.

    fact = countries()[0]
    question(fact)                        "The capital of France is"
    statement(fact.relation, fact.entity, "Lyon")     "Lyon is the capital of France."

An answer follows its question after a space.
"""

import functools
import json
from typing import NamedTuple

from contrastive_jax.data import packaged

# Relation: question, statement, an example in front of the question.
RELATIONS = {
    "capital": (
        "The capital of {entity} is",
        "{answer} is the capital city of {entity}.",
        ("Germany", "Berlin"),
    ),
    "language": (
        "The official language of {entity} is",
        "In {entity} everybody speaks {answer}.",
        ("Germany", "German"),
    ),
    "continent": (
        "The continent of {entity} is",
        "{entity} is a country in {answer}.",
        ("Germany", "Europe"),
    ),
}


class Fact(NamedTuple):
    """One fact.

    Attributes:
      relation: a key of RELATIONS.
      entity: a country.
      answer: what is true of it.
    """

    relation: str
    entity: str
    answer: str


@functools.cache
def countries() -> tuple[Fact, ...]:
    """Capitals, languages and continents of the members of the United Nations.

    The first capital where there are several; languages of countries with one only;
    America is North (with Central America and the Caribbean) or South.

    Raises:
      DataMissing: the package could not be fetched.
    """
    rows = json.loads(packaged.read_member("countries", "countries.json"))
    rows = [row for row in rows if row["unMember"] and row["capital"]]
    facts = []
    for row in sorted(rows, key=lambda row: row["name"]["common"]):
        name, south = row["name"]["common"], row["subregion"] == "South America"
        america = "South America" if south else "North America"
        region = america if row["region"] == "Americas" else row["region"]
        facts.append(Fact("capital", name, row["capital"][0]))
        facts.append(Fact("continent", name, region))
        if len(row["languages"]) == 1:
            (language,) = row["languages"].values()
            facts.append(Fact("language", name, language))
    examples = {name: example for name, (_, _, example) in RELATIONS.items()}
    return tuple(f for f in facts if f.entity != examples[f.relation][0])


def question(fact: Fact) -> str:
    """The beginning of a sentence that the answer ends.

    Examples:
      >>> question(Fact("capital", "France", "Paris"))
      'The capital of France is'
    """
    return RELATIONS[fact.relation][0].format(entity=fact.entity)


def example(relation: str) -> str:
    """A question with its answer, which shows a model what is asked for.

    Examples:
      >>> example("capital")
      'The capital of Germany is Berlin.'
    """
    entity, answer = RELATIONS[relation][2]
    return f"{question(Fact(relation, entity, answer))} {answer}."


def statement(relation: str, entity: str, answer: str) -> str:
    """A sentence that says that this is the answer, true or not.

    Examples:
      >>> statement("capital", "France", "Lyon")
      'Lyon is the capital city of France.'
    """
    return RELATIONS[relation][1].format(entity=entity, answer=answer)
