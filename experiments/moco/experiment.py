"""MoCo: keys come from a slowly moving copy of the encoder, negatives from a queue.

Special about it:
- A key encoder that follows the query encoder (v1, eq. 2): `states.ema_update`, before
  the keys are encoded; in v3 its decay rises to 1 by a cosine: `states.ema_schedule`.
- v2: a ring of past keys as negatives (v1, algorithm 1): `states.Queue`, pushed last,
  and `moco.moco`. Ablation: `loss.queue_size` = 0 leaves the other keys of the batch.
- v3 (with `model.prediction`): these too, in both directions, a prediction head on the
  queries (algorithm 1): `moco.moco_v3`.

References: arXiv:1911.05722 (v1), 2003.04297 (v2), 2104.02057 (v3) and their code.

Deviations: batch statistics are shared over all devices instead of shuffling the keys
between devices; the queue starts at random directions, as in the code.
"""

import math

import chex
import jax
import jax.numpy as jnp

from contrastive_jax import losses, parallel, similarity, states, training
from contrastive_jax.methods import moco
from contrastive_jax.tasks import images

METHODS = {"moco": {}}


@chex.dataclass(frozen=True)
class State(training.TrainState):
    """Adds the key encoder and the queue of past keys (None when its size is 0)."""

    target: chex.ArrayTree  # parameters of the key encoder, an average of `params`
    target_state: chex.ArrayTree  # its batch statistics
    queue: states.Queue | None


def make_model(config, axis_name=None):
    """The encoder with its projection head and, in v3, a prediction head."""
    return images.make_model(config.model, axis_name)


def make_optimizer(config):
    """With warm-up and cosine decay."""
    return training.make_optimizer(**config.optim, num_steps=config.train.num_steps)


def init(config):
    """The state at step 0: both encoders equal, the queue random."""
    fields = images.init_fields(config, make_model(config), make_optimizer(config))
    queue = None
    if size := config.loss.queue_size:
        rng = jax.random.fold_in(jax.random.key(config.seed), 1)
        queue = states.queue_init(rng, size, config.model.projection[-1])
    copies = jax.tree.map(jnp.copy, (fields["params"], fields["model_state"]))
    return State(**fields, target=copies[0], target_state=copies[1], queue=queue)


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; batch: image [n, h, w, c] uint8."""
    model, tx = make_model(config, axis_name), make_optimizer(config)
    augments, t = images.make_views(config.data), config.loss.temperature
    v3 = bool(config.model.prediction)

    def against_batch(q, keys, labels):
        """Queries against the keys of the batch, of all devices."""
        scores = similarity.dot(q, parallel.all_gather(keys, axis_name)) / t
        if v3:
            return moco.moco_v3(scores, labels, temperature=t)
        return losses.info_nce(scores, labels)  # the ablation

    def step(s, batch):
        a, b = images.two_views(augments, batch["image"], s.rng, s.step, axis_name)
        labels = parallel.global_rows(len(a), axis_name)
        ends = dict(base=config.loss.decay, final=config.loss.decay_final)
        decay = states.ema_schedule(s.step / config.train.num_steps, **ends)
        target = states.ema_update(s.target, s.params, decay=decay)
        # v2 has the second views as keys of the first, v3 also the reverse.
        shown, hidden = map(jnp.concatenate, ((a, b), (b, a))) if v3 else (a, b)
        keys, target_state = training.apply_model(
            model, target, s.target_state, hidden, method="project"
        )
        keys = similarity.l2_normalize(keys)

        def loss_fn(params):
            q, model_state = training.apply_model(model, params, s.model_state, shown)
            q = similarity.l2_normalize(q)
            own = jnp.sum(q * keys, axis=-1)
            if s.queue is not None:
                loss = moco.moco(own / t, similarity.dot(q, s.queue.keys) / t)
            else:
                ways = zip(*(jnp.split(x, 1 + v3) for x in (q, keys)), strict=True)
                loss = sum(against_batch(*pair, labels) for pair in ways)
            return loss, (model_state, jnp.mean(own[: len(labels)]))

        (loss, (model_state, cosine)), grads = parallel.value_and_grad(
            loss_fn, axis_name, has_aux=True
        )(s.params)
        if (queue := s.queue) is not None:
            queue = states.queue_push(queue, parallel.all_gather(keys, axis_name))
        carried = dict(target=target, target_state=target_state, queue=queue)
        s = training.apply_gradients(s, grads, tx)
        norm = training.global_norm(grads)
        metrics = {"loss": loss, "positive_cosine": cosine, "grad_norm": norm}
        return s.replace(model_state=model_state, **carried), metrics

    return step


def batches(config, start_step):
    """Shuffled images, with labels that the objective ignores."""
    return images.batches(config.data, seed=config.seed, start_step=start_step)


def encode(config, state):
    """The frozen query encoder without its heads: images in [0, 1] to features."""
    return images.make_encoder(make_model(config), state.params, state.model_state)


def evaluate(config, trained):
    """Test accuracy (%) of linear probe and kNN on learned features and baselines."""
    return images.evaluate(config, trained, init, encode)


def run(config, workdir):
    """Trains, evaluates and writes the report; returns the final metrics."""
    shared = (config, workdir, init, make_step, batches, encode)
    trained = images.train_each(METHODS, *shared)
    results = evaluate(config, trained)
    negatives = config.loss.queue_size or config.data.batch_size - 1
    # Not of v3, whose loss is scaled by the temperature and of both ways.
    chance = {} if config.model.prediction else {"moco": math.log(1 + negatives)}
    images.write_report(workdir, __doc__, config, results, trained, encode, chance)
    return results
