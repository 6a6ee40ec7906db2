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
import pathlib

import jax
import jax.numpy as jnp

from contrastive_jax import losses, models, pairs, parallel, similarity, training
from contrastive_jax.data import images as sets
from contrastive_jax.data import make_augment
from contrastive_jax.tasks import images

OBJECTIVES = ("supcon", "simclr", "cross_entropy")


def make_parts(config, axis_name=None):
    """Model and optimiser; with cross entropy the head gives class scores."""
    objective = config.loss.objective
    if objective not in OBJECTIVES:
        raise ValueError(
            f"loss.objective: expected one of {OBJECTIVES}, got {objective!r}"
        )
    settings = config.model.to_dict()
    projection = settings.pop("projection")
    shared = dict(axis_name=axis_name, dtype=jnp.dtype(settings.pop("dtype")))
    if objective == "cross_entropy":
        names = sets.class_names(config.data.name, config.data.data_dir)
        head = models.Mlp((len(names),), **shared)
    else:
        head = models.Mlp(projection, batch_norm=True, **shared)
    model = models.EncoderWithHead(models.Resnet(**settings, **shared), head)
    tx = training.make_optimizer(**config.optim, num_steps=config.train.num_steps)
    return model, tx


def init(config):
    """The state at step 0."""
    model, tx = make_parts(config)
    variables = images.init_variables(model, config.data, config.seed)
    fields = training.init_fields(
        config.seed, variables["params"], tx, variables["batch_stats"]
    )
    return training.TrainState(**fields)


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; image [n, h, w, c], label [n]."""
    model, tx = make_parts(config, axis_name)
    augment = make_augment(**config.data.augment.to_dict())

    def contrast(z, label):
        """All views of all devices; positives by class, or by image without labels."""
        a, b = jnp.split(similarity.l2_normalize(z), 2)
        everyone = parallel.all_gather((a, b, label), axis_name)
        scores = similarity.dot(jnp.concatenate([a, b]), jnp.concatenate(everyone[:2]))
        rows = parallel.global_rows(len(a), axis_name)
        total = len(everyone[2])
        itself = pairs.one_column(jnp.concatenate([rows, rows + total]), 2 * total)
        if config.loss.objective == "supcon":
            same = pairs.same_label(label, everyone[2])
        else:
            same = pairs.one_column(rows, total)
        return losses.supervised_contrastive(
            scores / config.loss.temperature,
            jnp.tile(same, (2, 2)),
            where=~itself,
            form=config.loss.form,
        )

    def step(state, batch):
        views = images.two_views(
            (augment, augment), batch["image"], state.rng, state.step, axis_name
        )

        def loss_fn(params):
            z, updated = model.apply(
                {"params": params, "batch_stats": state.model_state},
                jnp.concatenate(views),
                train=True,
                mutable=["batch_stats"],
            )
            if config.loss.objective == "cross_entropy":
                loss = losses.info_nce(z, jnp.tile(batch["label"], 2))
            else:
                loss = contrast(z, batch["label"])
            return loss, updated["batch_stats"]

        (loss, model_state), grads = parallel.value_and_grad(
            loss_fn, axis_name, has_aux=True
        )(state.params)
        state = training.apply_gradients(state, grads, tx)
        metrics = {"loss": loss, "grad_norm": training.global_norm(grads)}
        return state.replace(model_state=model_state), metrics

    return step


def batches(config, start_step):
    """Shuffled images with their labels."""
    return images.batches(config.data, seed=config.seed, start_step=start_step)


def make_encoder(config, state):
    """The frozen encoder without its head: images in [0, 1] to features."""
    return images.make_encoder(make_parts(config)[0], state.params, state.model_state)


def make_classifier(config, state):
    """The whole network of the baseline: images in [0, 1] to class scores."""
    model, _ = make_parts(config)
    params, model_state = jax.device_get((state.params, state.model_state))
    variables = {"params": params, "batch_stats": model_state}
    return functools.partial(model.apply, variables, train=False)


def train(config, workdir):
    """One objective from start to end, in a folder of its own."""
    step = parallel.data_parallel(
        functools.partial(make_step, config), config.mapper, devices=config.devices
    )
    source = functools.partial(batches, config)
    workdir = pathlib.Path(workdir) / config.loss.objective
    return training.fit(step, init(config), source, **config.train, workdir=workdir)


def with_objective(config, objective):
    """The same config with another objective."""
    other = config.copy_and_resolve_references()
    other.loss.objective = objective
    return other


def evaluate(config, state, baseline=None):
    """Test accuracy (%) of linear probe and kNN, and of the baseline's classifier."""
    encoders = {config.loss.objective: make_encoder(config, state)}
    if baseline is not None:
        other = with_objective(config, config.loss.baseline)
        encoders[config.loss.baseline] = make_encoder(other, baseline)
    encoders["random_init"] = make_encoder(config, init(config))
    encoders["pixels"] = images.pixels
    found = images.evaluate_encoders(encoders, config.data, **config.eval)
    if baseline is not None and config.loss.baseline == "cross_entropy":
        test = images.encode_split(
            make_classifier(other, baseline),
            config.data,
            "test",
            limit=config.eval.test_limit,
        )
        right = test.features.argmax(axis=-1) == test.label
        found["cross_entropy/classifier"] = 100 * float(right.mean())
    return found


def run(config, workdir):
    """Trains objective and baseline, evaluates both and writes the report."""
    state = train(config, workdir)
    baseline = None
    if config.loss.baseline:
        baseline = train(with_objective(config, config.loss.baseline), workdir)
    results = evaluate(config, state, baseline)
    augment = make_augment(**config.data.augment.to_dict())
    images.write_report(
        workdir,
        title=f"Supervised contrastive learning on {config.data.name}",
        summary=__doc__.partition("\n")[0],
        results=results,
        curves=("loss", "grad_norm"),
        metrics_dir=pathlib.Path(workdir) / config.loss.objective,
        encode=make_encoder(config, state),
        data=config.data,
        views={"view 1": augment, "view 2": augment},
        config_text=training.config_text(config),
    )
    return results
