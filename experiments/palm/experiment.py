"""PALM: outsiders are far from mixtures of prototypes, several for each class.

Special about it:
- Soft assignments to the prototypes of one's class by Sinkhorn, the nearest five kept;
  prototypes are moving averages of what is assigned to them: `palm.palm`.
- The contrast of prototypes reaches the encoder through that average.
- Prototypes are a part of the state, the same on all devices: features are gathered.
- Outsiders by Mahalanobis distance (`evaluation.mahalanobis_scores`) or nearest
  neighbor (`evaluation.knn_scores`) of the features before the head.
- One config key each turns it into its baselines: `loss.per_class=1` (one prototype a
  class), `loss.objective` contrastive (SupCon, SimCLR) or cross_entropy.

Reference: Lu et al. 2024, arXiv:2402.02653; jeff024/PALM.

Deviations: first prototypes are random directions, not of the positive orthant; the
last state is kept, not that of the lowest training loss; the mean is taken off once
before the Mahalanobis distance; without labels see `palm.palm`. Data, network and
number of steps are ours, and so is the decay of 0.99 that few steps need.
"""

import chex
import jax
import jax.numpy as jnp

from contrastive_jax import losses, parallel, similarity, states, training
from contrastive_jax.methods import palm
from contrastive_jax.tasks import images
from experiments.palm import data, measure, report

METHODS = {
    "palm": {},
    "one_prototype": {"loss.per_class": 1, "loss.topk": 1},
    "supcon": {"loss.objective": "contrastive"},
    "cross_entropy": {"loss.objective": "cross_entropy"},
    "palm_unlabelled": {"loss.labelled": False},
    "simclr": {"loss.objective": "contrastive", "loss.labelled": False},
}


@chex.dataclass(frozen=True)
class State(training.TrainState):
    """Besides parameters and optimiser.

    Attributes:
      prototypes: of all classes; prototype m belongs to class m % num_classes.
    """

    prototypes: states.Prototypes


def make_model(config, axis_name=None):
    """An encoder and its projection head; with cross entropy a head of class scores."""
    head = {"batch_norm": False}
    if config.loss.objective == "cross_entropy":
        head["projection"] = (config.loss.num_classes,)
    return images.make_model(config.model, axis_name, **head)


def make_optimizer(config):
    """With warm-up and cosine decay."""
    return training.make_optimizer(**config.optim, num_steps=config.train.num_steps)


def init(config):
    """The state at step 0."""
    fields = images.init_fields(config, make_model(config), make_optimizer(config))
    number = config.loss.num_classes * config.loss.per_class
    rng = jax.random.key(config.seed + 1)
    prototypes = states.prototypes_init(rng, number, config.model.projection[-1])
    return State(**fields, prototypes=prototypes)


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; image [n, h, w, c], label [n]."""
    model, tx, loss = make_model(config, axis_name), make_optimizer(config), config.loss
    augments = images.make_views(config.data)

    def mixture(state, z, label):
        """PALM over the features of all devices, [n, 2, d]."""
        z, label = parallel.all_gather(
            (jnp.stack(jnp.split(z, 2), axis=1), label), axis_name
        )
        value, parts, prototypes = palm.palm(
            state.prototypes,
            z,
            label if loss.labelled else None,
            num_classes=loss.num_classes,
            topk=loss.topk,
            neighbors=loss.neighbors,
            decay=loss.decay,
            temperature=loss.temperature,
            contrast=loss.contrast,
            epsilon=loss.epsilon,
        )
        return value, (parts, prototypes)

    def contrast(z, label):
        """SupCon, or SimCLR: every image is a class of its own."""
        rows = parallel.global_rows(len(label), axis_name)
        classes = jnp.tile(label if loss.labelled else rows, 2)
        return parallel.supervised_contrastive(
            z, classes, axis_name=axis_name, temperature=loss.temperature
        )

    def step(state, batch):
        label = batch["label"]
        views = images.two_views(
            augments, batch["image"], state.rng, state.step, axis_name
        )

        def loss_fn(params):
            out, model_state = training.apply_model(
                model, params, state.model_state, jnp.concatenate(views)
            )
            if loss.objective == "cross_entropy":
                value = losses.info_nce(out, jnp.tile(label, 2))
                return value, ({}, state.prototypes, model_state)
            z = similarity.l2_normalize(out)
            if loss.objective == "contrastive":
                return contrast(z, label), ({}, state.prototypes, model_state)
            value, (parts, prototypes) = mixture(state, z, label)
            return value, (parts, prototypes, model_state)

        (value, aux), grads = parallel.value_and_grad(loss_fn, axis_name, has_aux=True)(
            state.params
        )
        parts, prototypes, model_state = aux
        state = training.apply_gradients(state, grads, tx)
        metrics = {"loss": value, **parts, "grad_norm": training.global_norm(grads)}
        return state.replace(prototypes=prototypes, model_state=model_state), metrics

    return step


batches = data.batches


def encode(config, state):
    """The frozen encoder without its head: images in [0, 1] to features."""
    return images.make_encoder(make_model(config), state.params, state.model_state)


def head(config, state):
    """The whole frozen network: images in [0, 1] to class scores or embeddings."""
    params, model_state = jax.device_get((state.params, state.model_state))
    variables = {"params": params, "batch_stats": model_state}
    model = make_model(config)
    return lambda x: model.apply(variables, x, train=False)


def evaluate(config, trained):
    """AUROC and FPR95 (%) of every method and score, and kNN accuracy (%)."""
    return measure.evaluate(config, measure.score_each(config, trained, encode, head))


def run(config, workdir):
    """Trains every method, scores outsiders and writes the report."""
    methods = {name: METHODS[name] for name in config.methods}
    shared = (config, workdir, init, make_step, batches, encode)
    trained = images.train_each(methods, *shared)
    scores = measure.score_each(config, trained, encode, head)
    results = measure.evaluate(config, scores)
    report.write(workdir, __doc__, config, results, scores, trained, head)
    return results
