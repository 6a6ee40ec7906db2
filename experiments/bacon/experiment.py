"""BaCon: new classes in a long-tailed set, by two branches that advise each other.

Special about it:
- Clusters of the contrastive features give class sizes, again every `estimate_every`
  steps: `bacon.class_distribution`. Each time is a stage with checkpoints of its own.
- The classifier is held to these sizes: `bacon.distribution_regularizer`, beside
  self-distillation over views (`losses.dino`) and cross entropy of labelled rows.
- Its debiased soft labels are positives of a soft contrast, of frequent classes only
  some: `bacon.debiased_labels`, `drawn_counts`, `confident_rows`, `soft_contrastive`.
- One config key each: `loss.soft=0` (no soft contrast), `loss.power=0` (uniform sizes),
  `model.shared` (SimGCD), `loss.pseudo=0` (GCD: k-means on the other branch).

Reference: Bai et al. 2023, arXiv:2310.01376; JianhongBai/BaCon.

Deviations: networks trained from scratch instead of the last block of DINO's ViT, each
branch with its own; a small projection head; features standardized before the
classifier (DINO's come out of a layer norm); one optimiser (no gradient passes between
the branches, so it is two); temperature 0.2 of the unsupervised term, 1 in the code;
equal numbers of labelled and other rows in a batch instead of on average.
"""

import pathlib

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from contrastive_jax import losses, pairs, parallel, similarity, training
from contrastive_jax.methods import bacon
from contrastive_jax.tasks import images
from experiments.bacon import data, measure, report
from experiments.bacon.model import Branches, CosineClassifier

UNIFORM = {"loss.power": 0.0, "loss.kappa": 0.0, "loss.beta": 0.0}
METHODS = {
    "bacon": {},
    "uniform": UNIFORM,
    "simgcd": {"loss.soft": 0.0, "model.shared": True, **UNIFORM},
    "gcd": {"loss.soft": 0.0, "loss.pseudo": 0.0},
}


@chex.dataclass(frozen=True)
class State(training.TrainState):
    """Besides parameters and optimiser.

    Attributes:
      sizes: estimated size of each class.
    """

    sizes: Float[Array, " k"]


def make_model(config, axis_name=None):
    """Both branches."""
    own = config.model
    whole = images.make_model(own, axis_name, batch_norm=False)
    pseudo = None if own.shared else images.make_model(own, axis_name).encoder
    classifier = CosineClassifier(own.num_classes, axis_name)
    return Branches(whole.encoder, whole.head, pseudo, classifier)


def make_optimizer(config):
    """With warm-up and cosine decay."""
    return training.make_optimizer(**config.optim, num_steps=config.train.num_steps)


def init(config):
    """The state at step 0, with classes of equal size."""
    fields = images.init_fields(config, make_model(config), make_optimizer(config))
    return State(**fields, sizes=jnp.ones(config.model.num_classes))


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; label -1 where there is none."""
    model, tx, own = make_model(config, axis_name), make_optimizer(config), config.loss
    augments = images.make_views(config.data)
    schedule = training.warmup_cosine(
        config.optim.learning_rate, config.train.num_steps, config.optim.warmup_steps
    )

    def classify(logits, label, sizes, step):
        """The pseudo-label branch; logits [n, 2, k]."""
        flat = logits.reshape(-1, logits.shape[-1])
        twice = jnp.repeat(label, 2)
        supervised = losses.info_nce(
            flat / own.student_temperature,
            jnp.maximum(twice, 0),
            where=jnp.broadcast_to((twice >= 0)[:, None], flat.shape),
        )
        both = logits.swapaxes(0, 1)
        distilled = losses.dino(
            both,
            both,
            student_temperature=own.student_temperature,
            teacher_temperature=bacon.teacher_temperature(
                step.astype(jnp.float32),
                warmup_epochs=own.teacher_warmup,
                start=own.first_temperature,
                final=own.final_temperature,
            ),
        )
        regularizer = bacon.distribution_regularizer(
            flat, sizes, power=own.power, temperature=own.student_temperature
        )
        share = own.supervised
        value = (1 - share) * (distilled + own.regularizer * regularizer)
        return value + share * supervised, regularizer

    def contrast(z, label, soft, kept, step):
        """The contrastive branch; z [n, 2, d], all first views first from here on."""
        z = jnp.concatenate(list(z.swapaxes(0, 1)))
        cosines = similarity.dot(z, z)
        unsupervised = losses.nt_xent(cosines / own.unsupervised_temperature)
        logits, others = cosines / own.temperature, ~jnp.eye(len(z), dtype=bool)
        told = jnp.tile(label, 2) >= 0
        supervised = losses.supervised_contrastive(
            logits, pairs.same_label(jnp.tile(label, 2)), where=others & told[None, :]
        )
        softly = bacon.soft_contrastive(
            logits,
            jnp.tile(bacon.soft_label_weights(soft), (2, 2)),
            where=others & jnp.tile(kept, 2)[:, None] & jnp.tile(kept, 2)[None, :],
        )
        ratio = own.soft * (step >= own.soft_from)
        both = (1 - ratio) * supervised + ratio * softly
        return (1 - own.supervised) * unsupervised + own.supervised * both

    def step(state, batch):
        sizes = state.sizes
        views = images.two_views(
            augments, batch["image"], state.rng, state.step, axis_name
        )
        label = parallel.all_gather(batch["label"], axis_name)
        known = jnp.any(pairs.one_column(label, len(sizes)), axis=0)
        rates = bacon.sampling_rates(sizes, known, alpha=own.alpha, beta=own.beta)
        adjustment = losses.logit_adjustment(sizes, kappa=own.kappa)
        rng = jax.random.fold_in(state.rng, 1)
        keys = parallel.example_keys(rng, state.step, len(label), None)

        def loss_fn(params):
            outputs, model_state = training.apply_model(
                model, params, state.model_state, jnp.concatenate(views)
            )
            logits, z = parallel.all_gather(
                tuple(jnp.stack(jnp.split(x, 2), axis=1) for x in outputs), axis_name
            )
            soft = bacon.debiased_labels(
                logits, adjustment, temperature=own.student_temperature
            )
            counts = bacon.drawn_counts(keys, soft, rates, where=label < 0)
            kept = (label >= 0) | bacon.confident_rows(soft, counts, where=label < 0)
            pseudo, regularizer = classify(logits, label, sizes, state.step)
            contrastive = contrast(z, label, soft, kept, state.step)
            parts = {
                "contrastive": contrastive,
                "pseudo": pseudo,
                "regularizer": regularizer,
                "kept": jnp.mean(kept, dtype=jnp.float32),
            }
            return own.pseudo * pseudo + contrastive, (parts, model_state)

        (value, aux), grads = parallel.value_and_grad(loss_fn, axis_name, has_aux=True)(
            state.params
        )
        parts, model_state = aux
        metrics = {"loss": value, **parts, "grad_norm": training.global_norm(grads)}
        metrics["learning_rate"] = schedule(state.step)
        state = training.apply_gradients(state, grads, tx)
        return state.replace(model_state=model_state), metrics

    return step


batches = data.batches


def encode(config, state):
    """The frozen contrastive branch: images in [0, 1] to features."""
    return images.make_encoder(make_model(config), state.params, state.model_state)


def train(config, workdir):
    """Trains in stages, each after a new estimate of the class sizes.

    Returns:
      the state, whose sizes are estimated once more, and the lines that were logged.
    """
    state, own, logged = init(config), config.train, []
    step = training.map_step(config, make_step)
    evals = {"watch": lambda state: images.watch(config, encode(config, state))}
    for start in range(0, own.num_steps, config.estimate_every):
        state = state.replace(sizes=measure.estimate(config, encode(config, state)))
        place = pathlib.Path(workdir) / f"from_{start}"
        state = training.fit(
            step,
            state,
            lambda now, start=start: batches(config, start + now),
            num_steps=min(config.estimate_every, own.num_steps - start),
            log_every=own.log_every,
            save_every=own.save_every,
            max_skipped=own.max_skipped,
            eval_every=config.watch.every,
            evals=evals,
            workdir=place,
        )
        logged += report.read(place, start)
    report.save(pathlib.Path(workdir), logged)
    return state.replace(sizes=measure.estimate(config, encode(config, state))), logged


def classify(config, state):
    """The frozen classifier: images in [0, 1] to class scores."""
    params, model_state = jax.device_get((state.params, state.model_state))
    variables = {"params": params, "batch_stats": model_state}
    model = make_model(config)
    return lambda x: model.apply(variables, x, method="classify")


def evaluate(config, trained):
    """Accuracy (%) of all, known and new, frequent and rare classes, by method."""
    return measure.evaluate(measure.predict_each(config, trained, encode, classify))


def run(config, workdir):
    """Trains every method, matches clusters and classes, writes the report."""
    trained, logged = {}, {}
    for name in config.methods:
        print(f"{name}:", flush=True)
        own = training.changed(config, METHODS[name])
        state, logged[name] = train(own, pathlib.Path(workdir) / name)
        trained[name] = own, state
    predicted = measure.predict_each(config, trained, encode, classify)
    results = measure.evaluate(predicted)
    report.write(workdir, __doc__, config, results, predicted, trained, logged)
    return results
