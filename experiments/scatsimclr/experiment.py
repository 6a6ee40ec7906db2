"""ScatSimCLR: SimCLR on wavelet scattering coefficients, with a pretext task.

Special about it:
- Most of the encoder is fixed: `models.scattering_2d` of every channel, then a small
  learned adapter (section 3; `ScatteringEncoder` in model.py).
- L = NT-Xent + lambda CE(t, g(h)) (section 3): `losses.nt_xent`, and `losses.info_nce`
  of the transformation t that `models.PretextHead` reads off the features h.
- t is one of four turns, all of them in every step, or one of 35 orders of 9 tiles
  (data.py; `data.augment.pretext`).
- `loss.pretext` "" is the ablation of the task, `model.encoder` "resnet" that of the
  scattering: SimCLR, with the same views, batches and number of steps.

Reference: Kinakh et al. 2021, arXiv:2108.13939; vkinakh/scatsimclr.

Deviations: a quarter of the images of a batch have the pretext task, not all
(`loss.every`); images are turned after their view is drawn, since a flip after a turn
changes its label (`loss.turn_first`: as in the paper); tiles are cut from one view,
without a further augmentation of each; the 35 orders are drawn by `jigsaw_permutations`
(those of the released code are in a file of their own); views and transformed images
pass the encoder together, so they share batch statistics; the cosine decay spans all
steps (in the code it is stepped by epoch over a period counted in batches); the paper
trains on STL-10's unlabelled images, too, but `paper` reads only the 5,000 labelled
ones of its training split.
"""

import functools

import jax
import jax.numpy as jnp

from contrastive_jax import losses, models, parallel, similarity, training
from contrastive_jax.tasks import images
from experiments.scatsimclr import data, report
from experiments.scatsimclr.config import METHODS
from experiments.scatsimclr.model import (
    EncoderWithPretext,
    ScatteringEncoder,
    log_coefficients,
)


def make_model(config, axis_name=None):
    """An encoder, its projection head and the head of the pretext task."""
    own, task = config.model, config.loss.pretext
    base = images.make_model(own, axis_name)
    shared = dict(axis_name=axis_name, dtype=jnp.dtype(own.dtype))
    encoder = base.encoder
    if own.encoder == "scattering":
        encoder = ScatteringEncoder(**own.scattering, **shared)
    if not task:
        return EncoderWithPretext(encoder, base.head)
    widths = (*own.pretext[f"{task}_widths"], data.num_classes(config.loss))
    head = models.PretextHead(widths, own.pretext.dropout, shared["dtype"])
    return EncoderWithPretext(encoder, base.head, head, data.PIECES[task])


def make_optimizer(config):
    """With warm-up and cosine decay."""
    return training.make_optimizer(**config.optim, num_steps=config.train.num_steps)


def init(config):
    """The state at step 0."""
    fields = images.init_fields(config, make_model(config), make_optimizer(config))
    return training.TrainState(**fields)


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; batch: image [n, h, w, c] uint8."""
    model, tx = make_model(config, axis_name), make_optimizer(config)
    augment, loss = images.make_views(config.data)[0], config.loss
    draw = data.make_inputs(loss, augment)

    def contrast(z):
        """NT-Xent of two views against those of all devices."""
        a, b = jnp.split(similarity.l2_normalize(z), 2)
        candidates = jnp.concatenate(parallel.all_gather((a, b), axis_name))
        scores = similarity.dot(jnp.concatenate([a, b]), candidates)
        labels = parallel.global_rows(len(a), axis_name)
        return losses.nt_xent(scores / loss.temperature, labels)

    def step(state, batch):
        x, puzzle = draw(batch["image"], state.rng, state.step, axis_name)
        transformed = () if puzzle is None else (puzzle.pieces, puzzle.rng)

        def loss_fn(params):
            (z, logits), model_state = training.apply_model(
                model, params, state.model_state, x, *transformed
            )
            metrics = {"nt_xent": contrast(z)}
            total = metrics["nt_xent"]
            if puzzle is not None:
                metrics["pretext"] = losses.info_nce(logits, puzzle.label)
                right = jnp.argmax(logits, axis=-1) == puzzle.label
                metrics["pretext_accuracy"] = 100 * jnp.mean(right)
                weight = jnp.where(state.step >= loss.start_step, loss.weight, 0.0)
                total += weight * metrics["pretext"]
            return total, (metrics, model_state)

        (total, (metrics, model_state)), grads = parallel.value_and_grad(
            loss_fn, axis_name, has_aux=True
        )(state.params)
        state = training.apply_gradients(state, grads, tx)
        metrics = {"loss": total, "grad_norm": training.global_norm(grads), **metrics}
        return state.replace(model_state=model_state), metrics

    return step


def batches(config, start_step):
    """Shuffled images, with labels that the objective ignores."""
    return images.batches(config.data, seed=config.seed, start_step=start_step)


def encode(config, state):
    """The frozen encoder without its heads: images in [0, 1] to features."""
    return images.make_encoder(make_model(config), state.params, state.model_state)


def evaluate(config, trained):
    """Test accuracy (%) of linear probe and kNN, parameters of every encoder.

    Beside raw pixels and the untrained encoder: the scattering coefficients alone.
    """
    own = config.model.scattering
    names = ("scales", "angles", "max_order", "chunk", "grid")
    sizes = {name: own[name] for name in names}
    frozen = images.encoders(trained, init, encode)
    frozen["scattering"] = functools.partial(log_coefficients, **sizes)
    results = images.evaluate_encoders(frozen, config.data, **config.eval)
    for name, (_, state) in trained.items():
        sizes = [x.size for x in jax.tree.leaves(state.params["encoder"])]
        results[f"{name}/parameters"] = sum(sizes)
    return results


def run(config, workdir):
    """Trains every method, evaluates them and writes the report."""
    methods = {name: METHODS[name] for name in config.methods}
    shared = (config, workdir, init, make_step, batches, encode)
    trained = images.train_each(methods, *shared)
    results = evaluate(config, trained)
    report.write(workdir, __doc__, config, results, trained, encode)
    return results
