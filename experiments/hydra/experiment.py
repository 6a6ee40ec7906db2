"""Hydra: any two classes as a positive pair, in a subspace that a gate selects.

Special about it:
- Each anchor is paired with a class, its own or any other, and attracts the keys of
  that class: `hydra.sample_pair_labels`, `hydra.class_pair_contrastive`.
- The scores of an anchor are taken behind a gate that depends on the two classes:
  `hydra.gated_similarity`; the gate is a perceptron on class embeddings, model.py.
- Ablation: `model.gate`. Baselines in the same step: SupCon is identical classes and
  no gate, SimCLR the other view alone (`losses.info_nce`).

Reference: Wu et al. 2024, arXiv:2410.18200; erow/vitookit.

Deviations: two views, the first ones as anchors and the second as keys, as in a later
version of the code (the current one has a single view for both); batch statistics are
shared over all devices; no classifier is trained beside the encoder.
"""

import jax
import jax.numpy as jnp

from contrastive_jax import losses, parallel, similarity, training
from contrastive_jax.methods import hydra
from contrastive_jax.tasks import images
from experiments.hydra import measure, report
from experiments.hydra.model import ClassPairGate, GatedEncoder


def num_classes(config):
    """Of the set."""
    return images.num_classes(config.data)


def make_model(config, axis_name=None):
    """An encoder, its head and the gate."""
    model, gate = config.model, None
    base = images.make_model(model, axis_name)
    if model.gate:
        sizes = dict(embedding=model.embedding, hidden=model.hidden, fuse=model.fuse)
        dim = model.projection[-1]
        gate = ClassPairGate(num_classes(config), dim, **sizes, axis_name=axis_name)
    return GatedEncoder(base.encoder, base.head, gate)


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
    augments, loss = images.make_views(config.data), config.loss
    classes = num_classes(config)

    def paired(rng, labels, rows):
        """The class that each of this device's anchors is paired with."""
        mode = "identical" if loss.mode == "view" else loss.mode
        options = dict(mode=mode, num_classes=classes)
        return hydra.sample_pair_labels(rng, labels, **options)[rows]

    def step(state, batch):
        label = batch["label"]
        views = images.two_views(
            augments, batch["image"], state.rng, state.step, axis_name
        )
        everyone = parallel.all_gather(label, axis_name)
        rows = parallel.global_rows(len(label), axis_name)
        # A key of the step that is no example's.
        rng = jax.random.fold_in(jax.random.fold_in(state.rng, state.step), 2**31)
        pair_labels = paired(rng, everyone, rows)

        def loss_fn(params):
            inputs = jnp.concatenate(views), label, pair_labels
            (z, gate), model_state = training.apply_model(
                model, params, state.model_state, *inputs
            )
            anchors, keys = jnp.split(z, 2)
            keys = parallel.all_gather(keys, axis_name)
            if loss.mode == "view":
                scores = similarity.cosine(anchors, keys)
                value = losses.info_nce(scores / loss.temperature, rows)
            else:
                scores = hydra.gated_similarity(
                    anchors, keys, gate, normalize=loss.normalize
                )
                value = hydra.class_pair_contrastive(
                    scores / loss.temperature, label, pair_labels, everyone
                )
            return value, (model_state, jnp.mean(gate))

        (value, (model_state, gate)), grads = parallel.value_and_grad(
            loss_fn, axis_name, has_aux=True
        )(state.params)
        state = training.apply_gradients(state, grads, tx)
        norm = training.global_norm(grads)
        metrics = {"loss": value, "gate_mean": gate, "grad_norm": norm}
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
    """Test accuracy (%) on features and baselines; kNN and effective rank of z."""
    results = images.evaluate(config, trained, init, encode)
    for name, (own, state) in trained.items():
        found = measure.embeddings(own, state, make_model(own))
        results |= {f"{name}/{k}": x for k, x in found.items()}
    return results


def methods(config):
    """{name: changes} of Hydra, its ablations and its baselines."""
    plain = {"model.gate": False, "loss.temperature": config.compared.temperature}
    every = {
        "hydra": {},
        "no_gate": plain,
        "hydra_arbitrary": {"loss.mode": "arbitrary"},
        "no_gate_arbitrary": plain | {"loss.mode": "arbitrary"},
        "supcon": plain | {"loss.mode": "identical"},
        "simclr": {"loss.mode": "view", "model.gate": False},
    }
    return {name: every[name] for name in config.compared.methods}


def run(config, workdir):
    """Trains Hydra, its ablations and baselines; evaluates and writes the report."""
    shared = (config, workdir, init, make_step, batches, encode)
    trained = images.train_each(methods(config), *shared)
    results = evaluate(config, trained)
    report.write(workdir, __doc__, config, results, trained, make_model, encode)
    return results
