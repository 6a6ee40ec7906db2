"""Two small tasks of mteb with an encoder of ours: `PYTHON mteb_peer.py FOLDER`.

Run by tests/models/test_mteb.py in an environment that has mteb. Prints JSON: the main
scores, and Spearman's correlation as we compute it.
"""

import json
import sys

import datasets
import mteb
import numpy as np
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata

from contrastive_jax import evaluation
from contrastive_jax.models import pretrained
from contrastive_jax.models.pretrained.mteb import MtebEncoder

WORDS = ["a", "b", "c", "d", "e", "f"]


def metadata(kind, metric):
    return TaskMetadata(
        name=f"Own{kind}",
        description="",
        dataset={"path": "own", "revision": "1"},
        type=kind,
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=metric,
    )


class Sts(AbsTaskSTS):
    metadata = metadata("STS", "cosine_spearman")
    min_score, max_score = 0, 5

    def load_data(self, **_):
        columns = dict(sentence1=FIRST, sentence2=SECOND, score=SCORES)
        self.dataset = {"test": datasets.Dataset.from_dict(columns)}
        self.data_loaded = True


class Find(AbsTaskRetrieval):
    metadata = metadata("Retrieval", "ndcg_at_10")

    def load_data(self, **_):
        ids = [str(i) for i in range(len(WORDS))]
        split = RetrievalSplitData(
            corpus=datasets.Dataset.from_dict(
                {"id": [*ids, "empty"], "text": [*WORDS, " "], "title": [""] * 7}
            ),
            queries=datasets.Dataset.from_dict({"id": ids, "text": WORDS}),
            relevant_docs={i: {i: 1} for i in ids},
            top_ranked=None,
        )
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


rng = np.random.default_rng(0)
FIRST, SECOND = ([" ".join(rng.choice(WORDS, 3)) for _ in range(20)] for _ in range(2))
SCORES = rng.uniform(0, 5, 20).tolist()

encoder = pretrained.load_encoder(sys.argv[1])
model = MtebEncoder(encoder)
assert isinstance(model, mteb.EncoderProtocol)
found = mteb.evaluate(model, [Sts(), Find()], cache=None)
scores = {r.task_name: r.get_score() for r in found.task_results}
sides = (encoder.encode(encoder.params, texts) for texts in (FIRST, SECOND))
ours = evaluation.sts_correlations(*sides, np.array(SCORES))["spearman"]
print(json.dumps(scores | {"ours": float(ours)}))
