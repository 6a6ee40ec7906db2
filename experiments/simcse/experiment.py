"""SimCSE: a sentence and itself under other dropout attract, other sentences repel.

Special about it:
- The two views of a sentence differ by dropout alone (eq. 4): `losses.info_nce` of
  cosines over a temperature. `loss.masks="same"` takes the difference away.
- With pairs, and with a hard negative of each (eq. 5), in further columns, whose own
  one may have a weight (`log_weights`); negatives are mined by `tasks.sentences.mine`.
- A layer with tanh in training; alignment and uniformity of held-out pairs meanwhile.

Reference: Gao et al. 2021, arXiv:2104.08821; princeton-nlp/SimCSE.

Deviations: two blocks of a MiniLM; the mean of the states of tokens is the embedding,
[CLS] in "paper"; cosine decay; pairs are verses in two translations, hard negatives are
mined, where the paper has inferences; the layer is for training only with pairs, too.
"""

import functools
import math

import jax.numpy as jnp
import numpy as np

from contrastive_jax import losses, parallel, randomness, similarity, training
from contrastive_jax.models.pretrained import encoders
from contrastive_jax.tasks import sentence_views, sentences, text_encoders

CHANGES = {
    "simcse": {},
    "same_dropout": {"loss.masks": "same"},
    "pairs": {},
    "hard_negatives": {"loss.negatives": "hard"},
}
init = sentence_views.init
make_optimizer = sentence_views.make_optimizer
batches = sentence_views.batches


def make_model(config, axis_name=None):
    """The transformer."""
    return sentence_views.make_recipe(config).model


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; tokens and where [n, s, t], s texts."""
    recipe, other = sentence_views.make_recipe(config), config.loss.masks == "other"

    def embed(params, batch, keys):
        """[s, n, d]: of a sentence alone two views, else one of each text."""
        texts = [jnp.swapaxes(batch[name], 0, 1) for name in ("tokens", "where")]
        if len(texts[0]) == 1:
            texts = [jnp.tile(x, (2, 1, 1)) for x in texts]
        s, n, t = texts[0].shape
        several = [randomness.fold_keys(keys, i if other else 0) for i in range(s)]
        tokens, where = (x.reshape(s * n, t) for x in texts)
        each = jnp.concatenate(several)
        z = encoders.embed(recipe, params, tokens, where, keys=each)
        z = similarity.l2_normalize(sentence_views.project(params, z))
        return z.reshape(s, n, -1)

    def loss_of(params, state, batch, keys, rows):
        anchors, *others = embed(params, batch, keys)
        others = parallel.all_gather(others, axis_name)
        logits = similarity.dot(anchors, jnp.concatenate(others))
        # The own hard negative stands one set of candidates after the positive.
        hard = jnp.arange(logits.shape[1])[None] == (rows + len(others[0]))[:, None]
        return losses.info_nce(
            logits / config.loss.temperature,
            rows,
            log_weights=jnp.where(hard, config.loss.hard_weight, 0.0),
            reduce_fn=parallel.mean(axis_name),
        )

    return sentence_views.make_step(config, loss_of, axis_name)


def texts_of(config, method, encode):
    """Texts by column: sentences alone, pairs, or pairs with a hard negative each."""
    margin, negatives = config.loss.margin, config.loss.negatives
    if method in ("simcse", "same_dropout"):
        return sentence_views.columns(config)
    train, _ = sentence_views.pairs(config)
    queries, documents = (side[: config.data.count] for side in train)
    if negatives == "batch":
        return [queries, documents]
    corpus = documents
    mined = sentences.mine(encode, queries, documents, corpus, k=1, margin=margin)[:, 0]
    own = np.flatnonzero(mined >= 0)
    rows = ((queries, own), (documents, own), (documents, mined[own]))
    return [[side[i] for i in places] for side, places in rows]


def encode(config, state):
    """The frozen encoder of texts with its tokenizer, without the layer."""
    return sentence_views.text_encoder(config, state.params)


def evaluate(config, trained):
    """Test sets (%) of every method, and measures of held-out pairs."""
    return sentence_views.evaluate(config, sentence_views.trained_encoders(trained))


def run(config, workdir):
    """The start, every method from there, evaluation and the report."""
    start = text_encoders.start(config, workdir)
    first = functools.partial(init, params=start.params)
    trained = {"start": (config, first(config))}
    encode = sentence_views.encoder(config, start.params)
    for name in config.methods:
        own = training.changed(config, CHANGES[name])
        texts = texts_of(own, name, encode)
        trained |= training.train_each(
            {name: CHANGES[name]},
            config,
            workdir,
            first,
            make_step,
            functools.partial(batches, texts=texts),
            evals=sentence_views.watch,
            eval_every=config.eval.every,
        )
    results = evaluate(config, trained)
    alone = ("simcse", "same_dropout")
    chance = dict.fromkeys(alone, math.log(config.data.batch_size))
    sentence_views.write_report(workdir, "SimCSE", __doc__, config, results, chance)
    return results
