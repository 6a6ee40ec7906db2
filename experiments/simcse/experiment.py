"""SimCSE: a sentence and itself under other dropout attract, other sentences repel.

Special about it:
- The two views of a sentence differ by dropout alone (eq. 4); `losses.info_nce` on
  cosines over a temperature. `loss.masks="same"` takes the difference away.
- With pairs, and with a hard negative of each (eq. 5): further columns, whose own one
  may have a weight (`log_weights`); mined by `tasks.sentences.mine`.
- A layer with tanh before the loss, which the embeddings are taken without.
- Alignment and uniformity of held-out pairs while it trains.

Reference: Gao et al. 2021, arXiv:2104.08821; princeton-nlp/SimCSE.

Deviations: from a small masked language model, trained here; the mean of the states of
tokens is the embedding, [CLS] in "paper"; cosine decay; pairs are verses in two
translations, hard negatives are mined, where the paper has inferences; the layer is for
training only with pairs, too.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from contrastive_jax import losses, models, parallel, randomness, similarity, training
from contrastive_jax.data import array_batches
from contrastive_jax.models.pretrained import encoders
from contrastive_jax.tasks import sentences, text_encoders
from experiments.simcse import data, report

CHANGES = {
    "simcse": {"data.kind": "sentences"},
    "same_dropout": {"data.kind": "sentences", "loss.masks": "same"},
    "pairs": {"data.kind": "pairs"},
    "hard_negatives": {"data.kind": "hard"},
}


def make_recipe(config):
    """The encoder with the pooling of the config."""
    recipe = text_encoders.make_recipe(config.model)
    return dataclasses.replace(
        recipe, pooling=(config.model.pooling,), dense=(), normalize=False
    )


def make_model(config, axis_name=None):
    """The transformer."""
    return make_recipe(config).model


def make_optimizer(config):
    """With warm-up and cosine decay."""
    return training.make_optimizer(**config.optim, num_steps=config.train.num_steps)


def init(config, params=None):
    """The state at step 0; from random parameters where none are given."""
    rng, width = jax.random.key(config.seed), make_model(config).width
    if params is None:
        params = text_encoders.init_params(make_recipe(config), rng)
    kernel = 0.02 * jax.random.normal(jax.random.fold_in(rng, 1), (width, width))
    layer = {"kernel": kernel, "bias": jnp.zeros(width)}
    params = {"encoder": params["encoder"], "projection": layer}
    fields = training.init_fields(config.seed, params, make_optimizer(config))
    return training.TrainState(**fields)


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; batch: see `data.rows_of`."""
    recipe, tx = make_recipe(config), make_optimizer(config)
    optim, steps = config.optim, config.train.num_steps
    rate = training.warmup_cosine(optim.learning_rate, steps, optim.warmup_steps)
    other = config.loss.masks == "other"

    def embed(params, batch, keys):
        """[s, n, d]: of a sentence alone two views, else one of each text."""
        texts = [jnp.swapaxes(batch[name], 0, 1) for name in ("tokens", "where")]
        if len(texts[0]) == 1:
            texts = [jnp.tile(x, (2, 1, 1)) for x in texts]
        s, n, t = texts[0].shape
        several = [randomness.fold_keys(keys, i if other else 0) for i in range(s)]
        tokens, where = (x.reshape(s * n, t) for x in texts)
        z = encoders.embed(
            recipe, params, tokens, where, keys=jnp.concatenate(several)
        )
        z = jnp.tanh(encoders.linear(params["projection"], z))
        return similarity.l2_normalize(z).reshape(s, n, -1)

    def step(state, batch):
        count = len(batch["tokens"])
        keys = parallel.example_keys(state.rng, state.step, count, axis_name)
        rows = parallel.global_rows(count, axis_name)

        def loss_fn(params):
            anchors, *others = embed(params, batch, keys)
            others = parallel.all_gather(others, axis_name)
            logits = similarity.dot(anchors, jnp.concatenate(others))
            total = len(others[0])
            # The own hard negative stands one set of candidates after the positive.
            own = jnp.arange(logits.shape[1])[None, :] == (rows + total)[:, None]
            return losses.info_nce(
                logits / config.loss.temperature,
                rows,
                log_weights=jnp.where(own, config.loss.hard_weight, 0.0),
                reduce_fn=parallel.mean(axis_name),
            )

        loss, grads = parallel.value_and_grad(loss_fn, axis_name)(state.params)
        metrics = {
            "loss": loss,
            "grad_norm": training.global_norm(grads),
            "learning_rate": rate(state.step),
        }
        return training.apply_gradients(state, grads, tx), metrics

    return step


def batches(config, start_step, encode=None):
    """Shuffled rows; batch t depends on (seed, t) only. encode: see `data.columns`."""
    return array_batches(
        data.rows_of(config, encode),
        batch_size=config.data.batch_size,
        seed=config.seed,
        start_step=start_step,
    )


def encoder(config, params):
    """Texts to embeddings, without dropout and without the layer."""
    tokenizer = text_encoders.make_tokenizer(config)
    params = {"encoder": jax.device_get(params["encoder"])}
    return text_encoders.encoder(
        make_recipe(config), params, tokenizer, config.data.length
    )


def watch(config):
    """What is measured of held-out pairs while a method trains."""
    _, pairs = data.pairs(config)

    def held_out(state):
        return sentences.geometry(encoder(config, state.params), pairs)

    return {"held_out": held_out}


def evaluate(config, trained):
    """Test sets (%) of every method, and the geometry of held-out pairs."""
    results = {}
    for name, (own, state) in trained.items():
        encode = encoder(own, state.params)
        found = sentences.evaluate(
            encode, sets=config.eval.sets, count=config.eval.count
        )
        found |= watch(own)["held_out"](state)
        results |= {f"{name}/{key}": value for key, value in found.items()}
    return results


def run(config, workdir):
    """The masked language model, every method from there, evaluation, the report."""
    start = text_encoders.start(config, workdir)
    first = functools.partial(init, params=start.params)
    source = functools.partial(batches, encode=encoder(config, start.params))
    methods = {name: CHANGES[name] for name in config.methods}
    shared = (config, workdir, first, make_step, source)
    trained = training.train_each(
        methods, *shared, evals=watch, eval_every=config.eval.every
    )
    results = evaluate(config, {"start": (config, first(config)), **trained})
    report.write(workdir, __doc__, config, results)
    return results
