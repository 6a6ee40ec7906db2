"""SimCLR: two augmented views of an image attract, all other images repel.

Special about it:
- NT-Xent over 2n views of all devices, oneself left out (eq. 1): `losses.nt_xent`.
- A projection head that is thrown away after training (section 4.2): `models.Mlp`.
- Batch statistics shared over all devices (section 2.2): `models.BatchNorm`.

Reference: Chen et al. 2020, arXiv:2002.05709; google-research/simclr.

Deviations: the crop is drawn from the central square of the image where images are
read from a TFDS folder; the default and `fashion` are small (28 x 28 grey images).
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from contrastive_jax import losses, models, parallel, similarity, training
from contrastive_jax.data import image_sets, make_augment
from contrastive_jax.training import image_eval


class Model(nn.Module):
    """Encoder and projection head."""

    encoder: nn.Module
    head: nn.Module

    def __call__(self, x, *, train: bool):
        return self.head(self.encoder(x, train=train), train=train)

    def encode(self, x):
        """Features for evaluation."""
        return self.encoder(x, train=False)


def make_augmentation(config):
    """The random view of one image, `augment(rng, image)`."""
    settings = config.data.augment.to_dict()
    out = settings.pop("out_size", 0)
    return make_augment(size=(out, out) if out else None, **settings)


def make_parts(config, axis_name=None):
    """Model and optimiser."""
    settings = config.model.to_dict()
    projection = settings.pop("projection")
    shared = dict(axis_name=axis_name, dtype=jnp.dtype(settings.pop("dtype")))
    model = Model(
        models.Resnet(**settings, **shared),
        models.Mlp(projection, batch_norm=True, **shared),
    )
    tx = training.make_optimizer(**config.optim, num_steps=config.train.num_steps)
    return model, tx


def init(config):
    """The state at step 0."""
    model, tx = make_parts(config)
    image = next(batches(config, 0))["image"][:2]
    rng = jax.random.key(config.seed)
    variables = model.init(rng, image_eval.to_unit(image), train=False)
    fields = training.init_fields(
        config.seed, variables["params"], tx, variables["batch_stats"]
    )
    return training.TrainState(**fields)


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; batch: image [n, h, w, c] uint8."""
    model, tx = make_parts(config, axis_name)
    augment = jax.vmap(make_augmentation(config))

    def step(state, batch):
        image = image_eval.to_unit(batch["image"])
        n = len(image)
        keys = parallel.example_keys(state.rng, state.step, n, axis_name)
        keys = jax.vmap(lambda key: jax.random.split(key), out_axes=1)(keys)
        views = augment(keys.reshape(-1), jnp.concatenate([image, image]))
        rows = parallel.global_rows(n, axis_name)

        def loss_fn(params):
            z, updated = model.apply(
                {"params": params, "batch_stats": state.model_state},
                views,
                train=True,
                mutable=["batch_stats"],
            )
            a, b = jnp.split(similarity.l2_normalize(z), 2)
            all_z = jnp.concatenate(parallel.gather((a, b), axis_name))
            scores = similarity.dot(jnp.concatenate([a, b]), all_z)
            loss = losses.nt_xent(scores / config.loss.temperature, rows)
            aligned = jnp.mean(jnp.sum(a * b, axis=-1))
            return loss, (updated["batch_stats"], {"positive_cosine": aligned})

        (loss, (model_state, metrics)), grads = parallel.value_and_grad(
            loss_fn, axis_name, has_aux=True
        )(state.params)
        state = training.apply_gradients(state, grads, tx)
        metrics = {"loss": loss, **metrics, "grad_norm": training.global_norm(grads)}
        return state.replace(model_state=model_state), metrics

    return step


def batches(config, start_step):
    """Shuffled images with their labels, which the objective ignores."""
    data = config.data
    return image_sets.batches(
        data.name,
        data_dir=data.data_dir,
        size=data.size,
        batch_size=data.batch_size,
        seed=config.seed,
        start_step=start_step,
    )


def make_encoder(config, state):
    """The frozen encoder without its head: images in [0, 1] to features."""
    model, _ = make_parts(config)
    params, model_state = jax.device_get((state.params, state.model_state))
    variables = {"params": params, "batch_stats": model_state}
    return functools.partial(model.apply, variables, method="encode")


def evaluate(config, state):
    """Test accuracy (%) of linear probe and kNN on learned features and baselines."""
    encoders = {
        "simclr": make_encoder(config, state),
        "random_init": make_encoder(config, init(config)),
        "pixels": image_eval.pixels,
    }
    return image_eval.evaluate_encoders(encoders, config.data, **config.eval)


def run(config, workdir):
    """Trains, evaluates and writes the report; returns the final metrics."""
    step = parallel.data_parallel(
        functools.partial(make_step, config), config.mapper, devices=config.devices
    )
    source = functools.partial(batches, config)
    state = training.fit(step, init(config), source, **config.train, workdir=workdir)
    results = evaluate(config, state)
    augment = make_augmentation(config)
    image_eval.write_report(
        workdir,
        title=f"SimCLR on {config.data.name}",
        summary=__doc__.partition("\n")[0],
        results=results,
        curves=("loss", "positive_cosine", "grad_norm"),
        encode=make_encoder(config, state),
        data=config.data,
        views={"view 1": augment, "view 2": augment},
        config_text=str(config),
    )
    return results
