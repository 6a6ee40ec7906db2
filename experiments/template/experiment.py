"""Template: the smallest complete experiment, digits under changing light; copy it.

Special about it (three to five lines, naming equations and functions):
- An image under two lights attracts itself, repels all others:
  `losses.two_way_info_nce`.

Deviations: list here every difference from the paper or from its code.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax import data, losses, models, parallel, similarity, training
from contrastive_jax.evaluation import knn
from contrastive_jax.report import Report
from contrastive_jax.training import metrics

METHODS = {"learned": {}}  # baselines and ablations: {"name": {"section.key": value}}


def make_model(config, axis_name=None):
    """The linen module."""
    return models.Mlp(config.model.widths, axis_name=axis_name)


def make_optimizer(config):
    """With warm-up and cosine decay."""
    return training.make_optimizer(**config.optim, num_steps=config.train.num_steps)


def init(config):
    """The state at step 0."""
    pixels = to_unit(data.images.load(config.data.name).train_image[:2])
    model, rng = make_model(config), jax.random.key(config.seed)
    params = model.init(rng, pixels.reshape(2, -1), train=False)["params"]
    fields = training.init_fields(config.seed, params, make_optimizer(config))
    return training.TrainState(**fields)


def to_unit(image):
    """uint8 images as floating point in [0, 1]."""
    return jnp.asarray(image, jnp.float32) / 255


def relight(rng, image, strength):
    """The image [h, w, c] under a random light, as a vector.

        x + strength (a r + b s + c),   a, b, c normal, r and s from -1 to 1

    with row r and column s of each pixel.
    """
    h, w, _ = image.shape
    a, b, c = strength * jax.random.normal(rng, (3,))
    plane = a * jnp.linspace(-1, 1, h)[:, None] + b * jnp.linspace(-1, 1, w)[None] + c
    return (image + plane[..., None]).reshape(-1)


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; batch: image [n, h, w, c] uint8."""
    model, tx = make_model(config, axis_name), make_optimizer(config)

    def two_lights(rng, x):
        return [relight(key, x, config.data.light) for key in jax.random.split(rng)]

    def step(state, batch):
        x = to_unit(batch["image"])
        keys = parallel.example_keys(state.rng, state.step, len(x), axis_name)
        first, second = jax.vmap(two_lights)(keys, x)
        labels = parallel.global_rows(len(x), axis_name)

        def loss_fn(params):
            a, b = (
                similarity.l2_normalize(model.apply({"params": params}, v, train=True))
                for v in (first, second)
            )
            forward = similarity.dot(a, parallel.all_gather(b, axis_name))
            backward = similarity.dot(b, parallel.all_gather(a, axis_name))
            t = config.loss.temperature
            return losses.two_way_info_nce(
                forward / t, labels, reverse_logits=backward / t
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


def evaluate(config, trained):
    """Test accuracy (%) of kNN on learned and random embeddings and on raw pixels.

    Every image, of training and test, is seen once, under a light of its own.
    """
    digits, model = data.images.load(config.data.name), make_model(config)

    def seen(image, seed):
        keys = jax.random.split(jax.random.key(seed), len(image))
        return jax.vmap(lambda k, x: relight(k, x, config.data.light))(
            keys, to_unit(image)
        )

    train, test = seen(digits.train_image, 1), seen(digits.test_image, 2)
    states = {name: state for name, (_, state) in trained.items()}
    features = {}
    for name, state in {**states, "random_init": init(config)}.items():
        variables = {"params": jax.device_get(state.params)}
        features[name] = [model.apply(variables, x, train=False) for x in (train, test)]
    features["pixels"] = train, test
    results = {}
    for name, (x, y) in features.items():
        guess = knn.knn_classify(
            x,
            digits.train_label,
            y,
            k=config.eval.k,
            num_classes=len(digits.class_names),
        )
        right = np.asarray(guess) == digits.test_label
        results[f"{name}/knn"] = 100 * float(np.mean(right))
    return results


def run(config, workdir):
    """The whole story in order; returns the final metrics."""
    trained = training.train_each(METHODS, config, workdir, init, make_step, batches)
    results = evaluate(config, trained)
    page = Report("Template", __doc__.partition("\n")[0])
    page.results(results)
    runs = {name: metrics.read(f"{workdir}/{name}") for name in trained}
    chance = dict.fromkeys(runs, math.log(config.data.batch_size))
    page.training(runs, chance)
    page.config(training.config_text(config))
    page.write(workdir)
    return results
