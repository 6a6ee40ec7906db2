"""SupCon: all images of a class attract, all others repel; then a linear classifier.

Special about it:
- All views of the same class are positives (eq. 2): `losses.supervised_contrastive`.
- `loss.form` "in" averages the positives inside the logarithm (eq. 3), the ablation.
- Two stages (section 3): the objective, then a linear classifier on frozen features.
- Baseline: cross entropy on the same encoder, views and number of steps.

Reference: Khosla et al. 2020, arXiv:2004.11362; HobbitLong/SupContrast.

Deviations: anchors without a positive leave the mean (the code counts them with 0; with
two views each anchor has one); the classifier is a logistic regression to convergence.
"""

import functools
import math

import jax
import jax.numpy as jnp

from contrastive_jax import losses, pairs, parallel, similarity, training
from contrastive_jax.tasks import images

OBJECTIVES = ("supcon", "simclr", "cross_entropy")


def make_model(config, axis_name=None):
    """An encoder and its projection head; with cross entropy a head of class scores."""
    objective, head = config.loss.objective, {}
    if objective not in OBJECTIVES:
        raise ValueError(
            f"loss.objective: expected one of {OBJECTIVES}, got {objective!r}"
        )
    if objective == "cross_entropy":
        classes = images.num_classes(config.data)
        head = dict(projection=(classes,), batch_norm=False)
    return images.make_model(config.model, axis_name, **head)


def make_optimizer(config):
    """With warm-up and cosine decay."""
    return training.make_optimizer(**config.optim, num_steps=config.train.num_steps)


def init(config):
    """The state at step 0."""
    fields = images.init_fields(config, make_model(config), make_optimizer(config))
    return training.TrainState(**fields)


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; image [n, h, w, c], label [n]."""
    model, tx = make_model(config, axis_name), make_optimizer(config)
    augments = images.make_views(config.data)

    def contrast(z, label):
        """All views of all devices; positives by class, or by image without labels."""
        a, b = jnp.split(similarity.l2_normalize(z), 2)
        *everyone, labels = parallel.all_gather((a, b, label), axis_name)
        scores = similarity.dot(jnp.concatenate([a, b]), jnp.concatenate(everyone))
        rows, total = parallel.global_rows(len(a), axis_name), len(labels)
        itself = pairs.one_column(jnp.concatenate([rows, rows + total]), 2 * total)
        if config.loss.objective == "supcon":
            same = pairs.same_label(label, labels)
        else:
            same = pairs.one_column(rows, total)
        return losses.supervised_contrastive(
            scores / config.loss.temperature,
            jnp.tile(same, (2, 2)),
            where=~itself,
            form=config.loss.form,
        )

    def step(state, batch):
        label = batch["label"]
        views = images.two_views(
            augments, batch["image"], state.rng, state.step, axis_name
        )

        def loss_fn(params):
            z, model_state = training.apply_model(
                model, params, state.model_state, jnp.concatenate(views)
            )
            if config.loss.objective == "cross_entropy":
                return losses.info_nce(z, jnp.tile(label, 2)), model_state
            return contrast(z, label), model_state

        (loss, model_state), grads = parallel.value_and_grad(
            loss_fn, axis_name, has_aux=True
        )(state.params)
        state = training.apply_gradients(state, grads, tx)
        metrics = {"loss": loss, "grad_norm": training.global_norm(grads)}
        return state.replace(model_state=model_state), metrics

    return step


def batches(config, start_step):
    """Shuffled images with their labels."""
    order = dict(seed=config.seed, start_step=start_step)
    return images.batches(config.data, **order, labels=True)


def encode(config, state):
    """The frozen encoder without its head: images in [0, 1] to features."""
    return images.make_encoder(make_model(config), state.params, state.model_state)


def evaluate(config, trained):
    """Test accuracy (%) of linear probe and kNN, and of the baseline's classifier."""
    results = images.evaluate(config, trained, init, encode)
    if "cross_entropy" in trained:
        own, state = trained["cross_entropy"]
        params, model_state = jax.device_get((state.params, state.model_state))
        variables = {"params": params, "batch_stats": model_state}
        classify = functools.partial(make_model(own).apply, variables, train=False)
        results["cross_entropy/classifier"] = images.accuracy(
            classify, config.data, limit=config.eval.test_limit
        )
    return results


def run(config, workdir):
    """Trains objective and baseline, evaluates both and writes the report."""
    names = dict.fromkeys((config.loss.objective, config.loss.baseline))
    methods = {name: {"loss.objective": name} for name in names if name}
    shared = (config, workdir, init, make_step, batches, encode)
    trained = images.train_each(methods, *shared)
    results = evaluate(config, trained)
    chance = dict.fromkeys(names, math.log(2 * config.data.batch_size - 1))
    chance.pop("cross_entropy", None)
    images.write_report(workdir, __doc__, config, results, trained, encode, chance)
    return results
