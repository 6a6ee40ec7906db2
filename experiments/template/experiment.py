"""Template: the smallest complete experiment, noisy copies of digits; copy it.

Special about it (three to five lines, naming equations and functions):
- Two noisy copies of an image attract, all others repel: `losses.two_way_info_nce`.

Deviations: list here every difference from the paper or from its code.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax import data, losses, models, parallel, similarity, training
from contrastive_jax.evaluation import knn
from contrastive_jax.report import Report, plots
from contrastive_jax.training import metrics


def make_parts(config):
    """Model and optimiser."""
    model = models.Mlp(config.model.widths)
    tx = training.make_optimizer(**config.optim, num_steps=config.train.num_steps)
    return model, tx


def init(config):
    """The state at step 0."""
    model, tx = make_parts(config)
    pixels = flat(data.images.load(config.data.name).train_image[:2])
    params = model.init(jax.random.key(config.seed), pixels, train=False)["params"]
    return training.TrainState(**training.init_fields(config.seed, params, tx))


def flat(image):
    """uint8 images as vectors in [0, 1]."""
    return jnp.asarray(image.reshape(len(image), -1), jnp.float32) / 255


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; batch: image [n, h, w, c] uint8."""
    model, tx = make_parts(config)

    def noisy(key, x):
        return x[None] + config.data.noise * jax.random.normal(key, (2, *x.shape))

    def step(state, batch):
        x = flat(batch["image"])
        keys = parallel.example_keys(state.rng, state.step, len(x), axis_name)
        first, second = jax.vmap(noisy, out_axes=1)(keys, x)
        rows = parallel.global_rows(len(x), axis_name)

        def loss_fn(params):
            a, b = (
                similarity.l2_normalize(model.apply({"params": params}, v, train=True))
                for v in (first, second)
            )
            forward = similarity.dot(a, parallel.all_gather(b, axis_name))
            backward = similarity.dot(b, parallel.all_gather(a, axis_name))
            t = config.loss.temperature
            return losses.two_way_info_nce(
                forward / t, rows, reverse_logits=backward / t
            )

        loss, grads = parallel.value_and_grad(loss_fn, axis_name)(state.params)
        state = training.apply_gradients(state, grads, tx)
        return state, {"loss": loss, "grad_norm": training.global_norm(grads)}

    return step


def batches(config, start_step):
    """Batches of image [n, h, w, c] uint8; batch t depends on (seed, t) only."""
    return data.array_batches(
        {"image": data.images.load(config.data.name).train_image},
        batch_size=config.data.batch_size,
        seed=config.seed,
        start_step=start_step,
    )


def evaluate(config, state):
    """Test accuracy (%) of kNN on learned embeddings and on random ones."""
    found = data.images.load(config.data.name)
    model, _ = make_parts(config)
    accuracy = {}
    for name, s in {"learned": state, "random_init": init(config)}.items():
        params = jax.device_get(s.params)
        train, test = (
            model.apply({"params": params}, flat(x), train=False)
            for x in (found.train_image, found.test_image)
        )
        guess = knn.knn_classify(
            train,
            found.train_label,
            test,
            k=config.eval.k,
            num_classes=len(found.class_names),
        )
        right = np.asarray(guess) == found.test_label
        accuracy[f"{name}/knn"] = 100 * float(np.mean(right))
    return accuracy


def run(config, workdir):
    """The whole story in order; returns the final metrics."""
    step = parallel.data_parallel(
        functools.partial(make_step, config), config.mapper, devices=config.devices
    )
    source = functools.partial(batches, config)
    state = training.fit(step, init(config), source, **config.train, workdir=workdir)
    results = evaluate(config, state)
    page = Report("Template", __doc__.partition("\n")[0])
    page.table(["metric", "value"], list(results.items()))
    page.figure(plots.curves(metrics.read(workdir), ("loss", "grad_norm")), "curves")
    page.code(training.config_text(config))
    page.write(workdir)
    return results
