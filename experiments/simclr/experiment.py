"""SimCLR: two augmented views of an image attract, all other images repel.

Special about it:
- NT-Xent over 2n views of all devices, oneself left out (eq. 1): `losses.nt_xent`.
- A projection head that is thrown away after training (section 4.2): `models.Mlp`.
- Batch statistics shared over all devices (section 2.2): `models.BatchNorm`.
- Any batch in the memory of a chunk: `parallel.cached_value_and_grad`, without batch
  statistics.

Reference: Chen et al. 2020, arXiv:2002.05709; google-research/simclr.

Deviations: the crop is drawn from the central square of the image where images are
read from a TFDS folder; the default and `fashion` are small (28 x 28 grey images).
"""

import math

import jax.numpy as jnp

from contrastive_jax import losses, parallel, similarity, training
from contrastive_jax.tasks import images

METHODS = {"simclr": {}}


def make_model(config, axis_name=None):
    """An encoder and its projection head."""
    batch_norm = config.model.norm == "batch"
    if config.loss.chunk_size and batch_norm:
        raise ValueError(
            "loss.chunk_size: batch normalisation ties an embedding to the other rows "
            "of its batch, which chunks would change; set model.norm=group"
        )
    return images.make_model(config.model, axis_name, batch_norm=batch_norm)


def make_optimizer(config):
    """With warm-up and cosine decay."""
    return training.make_optimizer(**config.optim, num_steps=config.train.num_steps)


def init(config):
    """The state at step 0."""
    fields = images.init_fields(config, make_model(config), make_optimizer(config))
    return training.TrainState(**fields)


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; batch: image [n, h, w, c] uint8."""
    model, tx = make_model(config, axis_name), make_optimizer(config)
    augments = images.make_views(config.data)

    def contrast(a, b):
        """NT-Xent of two views against those of all devices; mean positive cosine."""
        candidates = jnp.concatenate(parallel.all_gather((a, b), axis_name))
        scores = similarity.dot(jnp.concatenate([a, b]), candidates)
        labels = parallel.global_rows(len(a), axis_name)
        loss = losses.nt_xent(scores / config.loss.temperature, labels)
        return loss, jnp.mean(jnp.sum(a * b, axis=-1))

    def encode(params, model_state, x):
        z, model_state = training.apply_model(model, params, model_state, x)
        return similarity.l2_normalize(z), model_state

    def value_and_grad(state, views):
        """All images at once."""

        def loss_fn(params):
            x = jnp.concatenate(views)
            z, model_state = encode(params, state.model_state, x)
            loss, cosine = contrast(*jnp.split(z, 2))
            return loss, (cosine, model_state)

        return parallel.value_and_grad(loss_fn, axis_name, has_aux=True)(state.params)

    def cached_value_and_grad(state, views):
        """A chunk of images at a time."""

        def one_view(params, x):
            return encode(params, {}, x)[0]

        (loss, cosine), grads = parallel.cached_value_and_grad(
            {"a": one_view, "b": one_view},
            lambda params, z: contrast(z["a"], z["b"]),
            axis_name,
            chunk=config.loss.chunk_size,
            has_aux=True,
        )(state.params, dict(zip("ab", views, strict=True)))
        return (loss, (cosine, {})), grads

    def step(state, batch):
        views = images.two_views(
            augments, batch["image"], state.rng, state.step, axis_name
        )
        run = cached_value_and_grad if config.loss.chunk_size else value_and_grad
        (loss, (cosine, model_state)), grads = run(state, views)
        state = training.apply_gradients(state, grads, tx)
        norm = training.global_norm(grads)
        metrics = {"loss": loss, "positive_cosine": cosine, "grad_norm": norm}
        return state.replace(model_state=model_state), metrics

    return step


def batches(config, start_step):
    """Shuffled images, with labels that the objective ignores."""
    return images.batches(config.data, seed=config.seed, start_step=start_step)


def encode(config, state):
    """The frozen encoder without its head: images in [0, 1] to features."""
    return images.make_encoder(make_model(config), state.params, state.model_state)


def evaluate(config, trained):
    """Test accuracy (%) of linear probe and kNN on learned features and baselines."""
    return images.evaluate(config, trained, init, encode)


def run(config, workdir):
    """Trains, evaluates and writes the report; returns the final metrics."""
    shared = (config, workdir, init, make_step, batches, encode)
    trained = images.train_each(METHODS, *shared)
    results = evaluate(config, trained)
    chance = {"simclr": math.log(2 * config.data.batch_size - 1)}
    images.write_report(workdir, __doc__, config, results, trained, encode, chance)
    return results
