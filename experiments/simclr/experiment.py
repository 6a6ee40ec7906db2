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

import functools

import jax.numpy as jnp

from contrastive_jax import losses, models, parallel, similarity, training
from contrastive_jax.data import make_augment
from contrastive_jax.tasks import images


def make_parts(config, axis_name=None):
    """Model and optimiser."""
    settings = config.model.to_dict()
    projection, batch_norm = settings.pop("projection"), settings["norm"] == "batch"
    if config.loss.chunk_size and batch_norm:
        raise ValueError(
            "loss.chunk_size: batch normalisation ties an embedding to the other rows "
            "of its batch, which chunks would change; set model.norm=group"
        )
    shared = dict(axis_name=axis_name, dtype=jnp.dtype(settings.pop("dtype")))
    model = models.EncoderWithHead(
        models.Resnet(**settings, **shared),
        models.Mlp(projection, batch_norm=batch_norm, **shared),
    )
    tx = training.make_optimizer(**config.optim, num_steps=config.train.num_steps)
    return model, tx


def init(config):
    """The state at step 0."""
    model, tx = make_parts(config)
    variables = images.init_variables(model, config.data, config.seed)
    batch_stats = variables.get("batch_stats", {})
    fields = training.init_fields(config.seed, variables["params"], tx, batch_stats)
    return training.TrainState(**fields)


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; batch: image [n, h, w, c] uint8."""
    model, tx = make_parts(config, axis_name)
    augment = make_augment(**config.data.augment.to_dict())

    def step(state, batch):
        views = images.two_views(
            (augment, augment), batch["image"], state.rng, state.step, axis_name
        )
        rows = parallel.global_rows(len(views[0]), axis_name)

        def contrast(a, b):
            candidates = jnp.concatenate(parallel.all_gather((a, b), axis_name))
            scores = similarity.dot(jnp.concatenate([a, b]), candidates)
            loss = losses.nt_xent(scores / config.loss.temperature, rows)
            return loss, jnp.mean(jnp.sum(a * b, axis=-1))

        def loss_fn(params):
            z, updated = model.apply(
                {"params": params, "batch_stats": state.model_state},
                jnp.concatenate(views),
                train=True,
                mutable=["batch_stats"],
            )
            loss, cosine = contrast(*jnp.split(similarity.l2_normalize(z), 2))
            return loss, (updated.get("batch_stats", {}), cosine)

        def encode(params, x):
            return similarity.l2_normalize(
                model.apply({"params": params}, x, train=True)
            )

        if config.loss.chunk_size:
            (loss, cosine), grads = parallel.cached_value_and_grad(
                {"a": encode, "b": encode},
                lambda params, z: contrast(z["a"], z["b"]),
                axis_name,
                chunk=config.loss.chunk_size,
                has_aux=True,
            )(state.params, dict(zip("ab", views, strict=True)))
            model_state = {}
        else:
            (loss, (model_state, cosine)), grads = parallel.value_and_grad(
                loss_fn, axis_name, has_aux=True
            )(state.params)
        state = training.apply_gradients(state, grads, tx)
        metrics = {
            "loss": loss,
            "positive_cosine": cosine,
            "grad_norm": training.global_norm(grads),
        }
        return state.replace(model_state=model_state), metrics

    return step


def batches(config, start_step):
    """Shuffled images, with labels that the objective ignores."""
    return images.batches(config.data, seed=config.seed, start_step=start_step)


def make_encoder(config, state):
    """The frozen encoder without its head: images in [0, 1] to features."""
    return images.make_encoder(make_parts(config)[0], state.params, state.model_state)


def evaluate(config, state):
    """Test accuracy (%) of linear probe and kNN on learned features and baselines."""
    encoders = {
        "simclr": make_encoder(config, state),
        "random_init": make_encoder(config, init(config)),
        "pixels": images.pixels,
    }
    return images.evaluate_encoders(encoders, config.data, **config.eval)


def run(config, workdir):
    """Trains, evaluates and writes the report; returns the final metrics."""
    step = parallel.data_parallel(
        functools.partial(make_step, config), config.mapper, devices=config.devices
    )
    source = functools.partial(batches, config)
    state = training.fit(step, init(config), source, **config.train, workdir=workdir)
    results = evaluate(config, state)
    augment = make_augment(**config.data.augment.to_dict())
    images.write_report(
        workdir,
        title=f"SimCLR on {config.data.name}",
        summary=__doc__.partition("\n")[0],
        results=results,
        curves=("loss", "positive_cosine", "grad_norm"),
        encode=make_encoder(config, state),
        data=config.data,
        views={"view 1": augment, "view 2": augment},
        config_text=training.config_text(config),
    )
    return results
