"""WhitenedCSE: whitening of shuffled groups of channels, several positives.

Special about it:
- Each view of a batch is whitened within random groups of channels, drawn anew at every
  step: `states.shuffled_group_whiten` (section 3.2), over the rows of all devices.
- The first view against each of the others, with a softmax each, summed:
  `whitenedcse.multi_view_info_nce` (section 3.3).
- Whitening stands before the layer with tanh, and like it in training only.
- Baselines on the same start, data and steps: SimCSE, three views without whitening
  (`loss.whiten=False`), one group; and all embeddings centered or whitened after all.

Reference: Zhuo et al. 2023, arXiv:2305.17746; SupstarZh/WhitenedCSE.

Deviations: two blocks of a MiniLM; the mean of the states of tokens is the embedding,
[CLS] in "paper"; cosine decay, eps; no term of a masked language model (off in the
released script, too). Permutation and statistics are of a view, as in the paper; in the
released code a view's third of the batch holds all views of a third of the sentences.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax import parallel, similarity, states, training
from contrastive_jax.methods import whitenedcse
from contrastive_jax.tasks import sentence_views, text_encoders
from contrastive_jax.tasks.sentence_views import CENTERED, WHITENED

CHANGES = {
    "simcse": {"loss.views": 2, "loss.whiten": False},
    "three_views": {"loss.whiten": False},
    "whitenedcse": {},
    "one_group": {"loss.groups": 1},
}
init = sentence_views.init
make_optimizer = sentence_views.make_optimizer
batches = sentence_views.batches


def make_model(config, axis_name=None):
    """The transformer."""
    return sentence_views.make_recipe(config).model


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; tokens and where [n, 1, t]."""
    recipe, loss = sentence_views.make_recipe(config), config.loss
    options = dict(
        num_groups=loss.groups, eps=loss.eps, stop_gradient=loss.stop_gradient
    )
    width, whiten, views = recipe.model.width, loss.whiten, loss.views

    def loss_of(params, state, batch, keys, rows):
        tokens, where = batch["tokens"][:, 0], batch["where"][:, 0]
        z = text_encoders.views(recipe, params, tokens, where, keys, views)
        z = jnp.stack(parallel.all_gather([*z], axis_name))
        if whiten:
            # One draw for all devices.
            rng = jax.random.fold_in(jax.random.split(state.rng)[1], state.step)
            orders = states.channel_permutations(rng, views, width)
            z = states.shuffled_group_whiten(z, orders, **options)
        first, *others = (sentence_views.project(params, x) for x in z)
        scores = [similarity.cosine(first[rows], x) for x in others]
        return whitenedcse.multi_view_info_nce(
            jnp.stack(scores, axis=1) / loss.temperature,
            rows,
            reduce_fn=parallel.mean(axis_name),
        )

    return sentence_views.make_step(config, loss_of, axis_name)


@jax.jit
def fit_whitening(x, eps):
    """Mean and whitening matrix of rows."""
    moments = states.batch_moments(x)
    return moments.mean, states.whitening_matrix(moments.covariance, eps=eps)


def encode(config, state):
    """The frozen encoder of texts with its tokenizer, without the layer."""
    return sentence_views.text_encoder(config, state.params)


def evaluate(config, trained):
    """Test sets and held-out measures of every method; also centered, and whitened.

    By the mean and the covariance of embeddings of 1,000 training sentences.
    """
    encoders = sentence_views.trained_encoders(trained)
    fit = [*sentence_views.columns(config)[0][:1000]]
    for name, encode in [*encoders.items()]:
        mean, matrix = jax.device_get(fit_whitening(encode(fit), config.loss.eps))
        for ending, by in ((CENTERED, np.eye(len(mean))), (WHITENED, matrix)):
            encoders[name + ending] = functools.partial(changed, encode, mean, by)
    return sentence_views.evaluate(config, encoders)


def changed(encode, mean, matrix, texts):
    """(z - mean) matrix of the embeddings z of texts."""
    return (encode(texts) - mean) @ matrix


def run(config, workdir):
    """The start, every method from there, evaluation and the report."""
    start = text_encoders.start(config, workdir)
    first = functools.partial(init, params=start.params)
    methods = {name: CHANGES[name] for name in config.methods}
    shared = (config, workdir, first, make_step, batches)
    trained = training.train_each(
        methods,
        *shared,
        evals=sentence_views.watch,
        eval_every=config.eval.every,
    )
    results = evaluate(config, {"start": (config, first(config)), **trained})
    sentence_views.write_report(workdir, "WhitenedCSE", __doc__, config, results)
    return results
