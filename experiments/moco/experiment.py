"""MoCo: keys come from a slowly moving copy of the encoder, negatives from a queue.

Special about it:
- A key encoder that follows the query encoder (v1, eq. 2): `states.ema_update`, before
  the keys are encoded; in v3 its decay rises to 1 by a cosine: `states.ema_schedule`.
- v2: a ring of past keys as negatives (v1, algorithm 1): `states.Queue`, pushed last.
  Ablation: `loss.queue_size` = 0 leaves the other keys of the batch.
- v3 (with `model.prediction`): these too, in both directions, a prediction head on the
  queries, times 2 temperature (algorithm 1).

References: He et al. 2019, arXiv:1911.05722 (v1); Chen et al. 2020, arXiv:2003.04297
(v2); Chen et al. 2021, arXiv:2104.02057 (v3); facebookresearch/moco and moco-v3.

Deviations: batch statistics are shared over all devices instead of shuffling the keys
between devices; the queue starts at random directions, as in the code.
"""

import functools

import chex
import jax
import jax.numpy as jnp

from contrastive_jax import losses, models, parallel, similarity, states, training
from contrastive_jax.data import make_augment
from contrastive_jax.tasks import images


@chex.dataclass(frozen=True)
class State(training.TrainState):
    """Adds the key encoder and the queue of past keys (None when its size is 0).

    Attributes:
      target: parameters of the key encoder, an average of `params`.
      target_state: batch statistics of the key encoder.
      queue: past keys.
    """

    target: chex.ArrayTree
    target_state: chex.ArrayTree
    queue: states.Queue | None


def make_parts(config, axis_name=None):
    """Model, prediction head (None in v2) and optimiser."""
    settings = config.model.to_dict()
    projection, prediction = settings.pop("projection"), settings.pop("prediction")
    shared = dict(axis_name=axis_name, dtype=jnp.dtype(settings.pop("dtype")))
    last = dict(last_batch_norm=settings.pop("last_batch_norm"), last_affine=False)
    heads = dict(batch_norm=settings.pop("batch_norm"), **shared)
    model = models.EncoderWithHead(
        models.Resnet(**settings, **shared), models.Mlp(projection, **last, **heads)
    )
    predictor = models.Mlp(prediction, **heads) if prediction else None
    tx = training.make_optimizer(**config.optim, num_steps=config.train.num_steps)
    return model, predictor, tx


def init(config):
    """The state at step 0: both encoders equal, the queue random."""
    model, predictor, tx = make_parts(config)
    variables = images.init_variables(model, config.data, config.seed)
    params, model_state = {"model": variables["params"]}, variables["batch_stats"]
    rng, queue, dim = jax.random.key(config.seed), None, config.model.projection[-1]
    if predictor is not None:
        fresh = predictor.init(rng, jnp.zeros((2, dim)), train=False)
        params["predictor"] = fresh["params"]
        model_state = {"model": model_state, "predictor": fresh["batch_stats"]}
    else:
        model_state = {"model": model_state}
    if config.loss.queue_size:
        rng = jax.random.fold_in(rng, 1)
        queue = states.queue_init(rng, config.loss.queue_size, dim)
    copy = functools.partial(jax.tree.map, jnp.copy)
    return State(
        **training.init_fields(config.seed, params, tx, model_state),
        target=copy(params["model"]),
        target_state=copy(model_state["model"]),
        queue=queue,
    )


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; batch: image [n, h, w, c] uint8."""
    model, predictor, tx = make_parts(config, axis_name)
    augments = tuple(
        make_augment(**view.to_dict())
        for view in (config.data.first_view, config.data.second_view)
    )
    temperature, num_steps = config.loss.temperature, config.train.num_steps

    def apply(module, params, model_state, x):
        out, updated = module.apply(
            {"params": params, "batch_stats": model_state},
            x,
            train=True,
            mutable=["batch_stats"],
        )
        return out, updated.get("batch_stats", {})

    def step(s, batch):
        first, second = images.two_views(
            augments, batch["image"], s.rng, s.step, axis_name
        )
        rows = parallel.global_rows(len(first), axis_name)
        decay = states.ema_schedule(
            s.step / num_steps, base=config.loss.decay, final=config.loss.decay_final
        )
        target = states.ema_update(s.target, s.params["model"], decay=decay)
        # v2 encodes the second views as keys, v3 both.
        key_views = second if predictor is None else jnp.concatenate([second, first])
        keys, target_state = apply(model, target, s.target_state, key_views)
        keys = similarity.l2_normalize(keys)

        def queue_loss(params):
            """v2: one positive key against the queue."""
            q, updated = apply(model, params["model"], s.model_state["model"], first)
            q = similarity.l2_normalize(q)
            positive = jnp.sum(q * keys, axis=-1, keepdims=True)
            if s.queue is None:  # the ablation
                scores = similarity.dot(q, parallel.all_gather(keys, axis_name))
                loss = losses.info_nce(scores / temperature, rows)
            else:
                negatives = similarity.dot(q, s.queue.keys)
                scores = jnp.concatenate([positive, negatives], axis=-1)
                loss = losses.info_nce(scores / temperature, jnp.zeros_like(rows))
            return loss, ({"model": updated}, jnp.mean(positive))

        def symmetric_loss(params):
            """v3: predictions of either view against the other view's keys."""
            z, updated = apply(
                model,
                params["model"],
                s.model_state["model"],
                jnp.concatenate([first, second]),
            )
            q, head = apply(
                predictor, params["predictor"], s.model_state["predictor"], z
            )
            q = jnp.split(similarity.l2_normalize(q), 2)
            k = jnp.split(keys, 2)
            scores = [
                similarity.dot(mine, parallel.all_gather(other, axis_name))
                for mine, other in zip(q, k, strict=True)
            ]
            loss = sum(losses.info_nce(x / temperature, rows) for x in scores)
            cosine = jnp.mean(jnp.sum(q[0] * k[0], axis=-1))
            return 2 * temperature * loss, (
                {"model": updated, "predictor": head},
                cosine,
            )

        loss_fn = queue_loss if predictor is None else symmetric_loss
        (loss, (model_state, cosine)), grads = parallel.value_and_grad(
            loss_fn, axis_name, has_aux=True
        )(s.params)
        new = training.apply_gradients(s, grads, tx)
        queue = s.queue
        if queue is not None:
            queue = states.queue_push(queue, parallel.all_gather(keys, axis_name))
        new = new.replace(
            model_state=model_state,
            target=target,
            target_state=target_state,
            queue=queue,
        )
        norm = training.global_norm(grads)
        return new, {"loss": loss, "positive_cosine": cosine, "grad_norm": norm}

    return step


def batches(config, start_step):
    """Shuffled images, with labels that the objective ignores."""
    return images.batches(config.data, seed=config.seed, start_step=start_step)


def make_encoder(config, s):
    """The frozen query encoder: images in [0, 1] to features."""
    model = make_parts(config)[0]
    return images.make_encoder(model, s.params["model"], s.model_state["model"])


def evaluate(config, s):
    """Test accuracy (%) of linear probe and kNN on learned features and baselines."""
    encoders = {
        "moco": make_encoder(config, s),
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
    s = training.fit(step, init(config), source, **config.train, workdir=workdir)
    results = evaluate(config, s)
    images.write_report(
        workdir,
        title=f"MoCo v{3 if config.model.prediction else 2} on {config.data.name}",
        summary=__doc__.partition("\n")[0],
        results=results,
        curves=("loss", "positive_cosine", "grad_norm"),
        encode=make_encoder(config, s),
        data=config.data,
        views={
            "first view": make_augment(**config.data.first_view.to_dict()),
            "second view": make_augment(**config.data.second_view.to_dict()),
        },
        config_text=training.config_text(config),
    )
    return results
