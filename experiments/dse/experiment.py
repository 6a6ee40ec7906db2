"""DSE: sentences embedded alone reproduce the logits of a cross-encoder (verses).

Special about it:
- The teacher is a real cross-encoder (ms-marco-MiniLM-L-12-v2); its logits are computed
  once and kept. A small student embeds each text alone: `models.pool_layers`.
- `dse.siamese_head` scores a pair by [u, v, u * v, |u - v|], or by u . v;
  `dse.distilled_objective` weighs labels and squared distance from the logits.
- Pairs without a label are learned from the teacher alone, lambda = 1. The ablation is
  `loss.coeff` = 0 ("labels"): no teacher.
- All pairs of n queries and m candidates cost n + m passes: `dse.score_matrix`.

Reference: Barkan et al. 2020, arXiv:1908.05161; microsoft/Distilled-Sentence-Embedding.

Deviations: verses in two translations instead of GLUE; the teacher was tuned on MS
MARCO and not on the task, so a scale and an offset are fitted to the labeled pairs
(`model.calibrate`); the students start from the teacher's first two layers, where
teacher and student there both start from BERT-large; embeddings are standardized as the
start has them, and dot products get a scale and an offset, fitted before training
(`model.fitted`); no dropout, and a higher learning rate for the head; adamw with
correction of its moments, and cosine decay over the real number of steps (the code
counts micro-batches and so ends at half the peak); the last step instead of the best on
validation pairs.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from contrastive_jax import parallel, randomness, training
from contrastive_jax.methods import dse
from contrastive_jax.tasks import text_encoders
from experiments.dse import data, measure, model, report

METHODS = {
    "labels": {"loss.coeff": 0.0},
    "dse_labeled": {"loss.unlabeled": False},
    "dse": {},
    "teacher_only": {"loss.coeff": 1.0},
    "dse_dot": {"head.features": "dot"},
}


def make_model(config, axis_name=None):
    """The student's encoder."""
    return text_encoders.make_recipe(config.model).model


def make_optimizer(config):
    """With warm-up and cosine decay; the head's updates `head.rate` times as large."""
    tx = training.make_optimizer(**config.optim, num_steps=config.train.num_steps)

    def of_head(params):
        return {name: name == "head" for name in params}

    return optax.chain(tx, optax.masked(optax.scale(config.head.rate), of_head))


def init(config, encoder=None, rows=None):
    """The state at step 0.

    Args:
      config: of the experiment.
      encoder: parameters of the encoder; random ones when None.
      rows: pairs with labels (`data.rows`) by which embeddings are standardized, and
        to which scale and offset of dot products are fitted, before training; None
        for factors of 1, a scale of 1 / sqrt(d) and no offset.
    """
    first, second = jax.random.split(jax.random.key(config.seed))
    if encoder is None:
        recipe = text_encoders.make_recipe(config.model)
        encoder = text_encoders.init_params(recipe, first)["encoder"]
    params = {
        "encoder": jax.tree.map(jnp.array, encoder),
        "head": model.init_head(config, second),
    }
    if config.head.standardize:
        size = model.embedding_size(config)
        params["affine"] = {"scale": jnp.ones(size), "shift": jnp.zeros(size)}
    if rows is not None:
        params |= model.fitted(config, params, rows)
    fields = training.init_fields(config.seed, params, make_optimizer(config))
    return training.TrainState(**fields)


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; batch: see `data.rows`."""
    tx, own = make_optimizer(config), config.loss
    schedule = training.warmup_cosine(
        config.optim.learning_rate, config.train.num_steps, config.optim.warmup_steps
    )

    def step(state, batch):
        count, keys = len(batch["label"]), None
        if config.head.drop:
            keys = parallel.example_keys(state.rng, state.step, count, axis_name)
            keys = jnp.concatenate([randomness.fold_keys(keys, i) for i in range(2)])
        tokens, where = (
            jnp.concatenate([batch[f"first{end}"], batch[f"second{end}"]])
            for end in ("", "_where")
        )

        def loss_fn(params):
            u, v = jnp.split(model.embed(config, params, tokens, where, keys), 2)
            features = config.head.features
            return dse.distilled_objective(
                dse.siamese_head(params["head"], u, v, features=features),
                batch["label"],
                batch["teacher"],
                task=own.task,
                coeff=jnp.where(batch["labeled"], own.coeff, 1.0),
                reduce_fn=parallel.mean(axis_name),
            )

        loss, grads = parallel.value_and_grad(loss_fn, axis_name)(state.params)
        metrics = {
            "loss": loss,
            "grad_norm": training.global_norm(grads),
            "learning_rate": schedule(state.step),
        }
        return training.apply_gradients(state, grads, tx), metrics

    return step


batches = data.batches


def evaluate(config, trained, arrays):
    """Quality of every student, of the teacher and of common words; cost of scoring.

    Returns:
      the measures; logits of each on the evaluated pairs; seconds of scoring.
    """
    rows, task = arrays[config.eval.split], config.loss.task
    logits = {"teacher": rows["teacher"]}
    results, seconds = {}, {}
    for name, (own, state) in trained.items():
        one = model.Student(own, jax.device_get(state.params))
        logits[name], found = measure.look(config, one, rows)
        results |= {f"{name}/{key}": value for key, value in found.items()}
        if name in ("dse", "dse_dot"):
            seconds[name] = measure.time_student(config, one, rows)
    if task == "binary":
        logits["common_words"] = measure.common_words(config, data.read(config))
    for name in [name for name in logits if name not in trained]:
        found = measure.quality(logits[name], rows["label"], rows["teacher"], task)
        results |= {f"{name}/{key}": value for key, value in found.items()}
    seconds["teacher"] = measure.time_teacher(config, data.read(config))
    if config.eval.timed:
        results |= {f"{name}/seconds": value for name, value in seconds.items()}
        for name in seconds.keys() - {"teacher"}:
            results[f"{name}/speed_up"] = seconds["teacher"] / seconds[name]
    return results, logits, seconds


def watch(config, arrays):
    """Quality on validation pairs while a student is trained, and signs of collapse."""
    rows = arrays["validation"]

    def validation(state):
        one = model.Student(config, jax.device_get(state.params))
        return measure.look(config, one, rows)[1]

    return {"validation": validation}


def run(config, workdir):
    """The teacher's logits, the start, every student, evaluation and the report."""
    arrays = data.arrays(config, workdir)
    labeled = {k: x[: config.data.labeled] for k, x in arrays["train"].items()}
    start = text_encoders.start(config, workdir).params["encoder"]
    trained = training.train_each(
        {name: METHODS[name] for name in config.methods},
        config,
        workdir,
        functools.partial(init, encoder=start, rows=labeled),
        make_step,
        functools.partial(batches, arrays_of=arrays),
        evals=functools.partial(watch, arrays=arrays),
        eval_every=config.eval.every,
    )
    results, logits, seconds = evaluate(config, trained, arrays)
    report.write(workdir, __doc__, config, results, logits, seconds, arrays)
    return results
