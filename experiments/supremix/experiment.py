"""SupReMix: embeddings in the order of a real label, by mixtures as hard pairs.

Special about it:
- Mixtures with the anchor are negatives, mixtures of rows on both sides of the
  anchor's label are positives, and pairs weigh by the distance of their labels:
  `supremix.supremix`, of the rows of all devices.
- `no_mixtures` is the ablation (`losses.weighted_supervised_contrastive`); `supcon`
  takes bins for classes, `rnc` is `losses.rank_n_contrast`, `l1` regresses directly.
- Two stages: the objective, then a ridge readout of the frozen features.

Reference: Wu et al. 2023, arXiv:2309.16633; yilei-wu/SupReMix.

Deviations: one scale for scores of real and mixed pairs (the code has two maxima); no
compression step, whose labels stand beside other mixtures; all rows of a batch mix, not
those of sub-batches, by default with 16 rows on each side of a label; the readout is
solved, not trained; rank-n-contrast sees the same head as the others. Sets are ours.
"""

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax import losses, models, pairs, parallel, similarity, training
from contrastive_jax.data import make_augment
from contrastive_jax.methods import supremix
from contrastive_jax.report import Report
from contrastive_jax.tasks import images
from experiments.supremix import data, measure, report

OFF = {"loss.mix_negatives": False, "loss.mix_positives": False}
METHODS = {
    "supremix": {},
    "no_mixtures": OFF,
    "supcon": OFF | {"loss.weight": "none", "loss.bins": 10},
    "rnc": {"loss.objective": "rnc"},
    "l1": {"loss.objective": "l1"},
    "negatives_only": {"loss.mix_positives": False},
    "positives_only": {"loss.mix_negatives": False},
}


def make_model(config, axis_name=None):
    """A residual network or a perceptron, with a head; of "l1" it is one number."""
    head = (1,) if config.loss.objective == "l1" else tuple(config.model.projection)
    network = images.make_model(config.model, axis_name, projection=head)
    if len(data.shape_of(config)) == 1:
        widths = tuple(config.model.widths)
        options = dict(batch_norm=True, axis_name=axis_name)
        return models.EncoderWithHead(models.Mlp(widths, **options), network.head)
    return network


def make_optimizer(config):
    """With warm-up and cosine decay."""
    return training.make_optimizer(**config.optim, num_steps=config.train.num_steps)


def init(config):
    """The state at step 0."""
    model, tx = make_model(config), make_optimizer(config)
    rng, shape = jax.random.key(config.seed), data.shape_of(config)
    variables = images.fresh_variables(model, rng, shape)
    return training.TrainState(
        **training.init_fields(
            config.seed, variables["params"], tx, variables.get("batch_stats", {})
        )
    )


def make_views(config):
    """`views(x, keys)`: two random views of every row, first views first."""
    augment = make_augment(**config.data.augment.to_dict())
    drop = config.data.drop

    def one(key, x):
        if x.ndim == 1:  # of a standardized number 0 is the mean, of a word it is none
            return x * jax.random.bernoulli(key, 1 - drop, x.shape)
        return augment(key, images.to_unit(x))

    def views(x, keys):
        both = jnp.concatenate([keys[:, 0], keys[:, 1]])
        return jax.vmap(one)(both, jnp.concatenate([x, x]))

    return views


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; batch: x, label, see `data.batches`."""
    model, tx = make_model(config, axis_name), make_optimizer(config)
    views, loss = make_views(config), config.loss
    window = loss.windows.to_dict()[config.data.sets[0]]
    rate = training.warmup_cosine(
        config.optim.learning_rate, config.train.num_steps, config.optim.warmup_steps
    )

    def contrast(z, label, keys):
        """All views of all devices, of equal, near and far labels."""
        if loss.objective == "supremix":
            z = similarity.l2_normalize(z)
        a, b = jnp.split(z, 2)
        *every, labels = parallel.all_gather((a, b, label), axis_name)
        candidates, total = jnp.concatenate(every), len(labels)
        rows = parallel.global_rows(len(a), axis_name)
        rows = jnp.concatenate([rows, rows + total])
        if loss.bins:
            label, labels = (jnp.floor(x * (loss.bins / 100)) for x in (label, labels))
        gaps = jnp.tile(labels[None, :] - label[:, None], (2, 2))
        if loss.objective == "rnc":
            return losses.rank_n_contrast(
                similarity.euclidean(z, candidates) / loss.rnc_temperature,
                jnp.abs(gaps),
                where=~pairs.one_column(rows, 2 * total),
            )
        keys = jnp.concatenate([keys[:, 2], keys[:, 3]])
        return supremix.supremix(
            z,
            candidates,
            gaps,
            lam=supremix.mixing_shares(keys, 2 * total, beta=tuple(loss.beta)),
            rows=rows,
            window=window,
            temperature=loss.temperature,
            weight=loss.weight,
            mix_negatives=loss.mix_negatives,
            mix_positives=loss.mix_positives,
            parts=loss.parts or None,
        )

    def step(state, batch):
        x, label = batch["x"], batch["label"]
        keys = parallel.example_keys(state.rng, state.step, len(x), axis_name)
        keys = jax.vmap(lambda key: jax.random.split(key, 4))(keys)

        def loss_fn(params):
            z, model_state = training.apply_model(
                model, params, state.model_state, views(x, keys)
            )
            if loss.objective == "l1":  # in units of 25, about their spread
                return jnp.mean(jnp.abs(z[:, 0] - jnp.tile(label / 25, 2))), model_state
            return contrast(z, label, keys), model_state

        (value, model_state), grads = parallel.value_and_grad(
            loss_fn, axis_name, has_aux=True
        )(state.params)
        metrics = {
            "loss": value,
            "grad_norm": training.global_norm(grads),
            "learning_rate": rate(state.step),
        }
        state = training.apply_gradients(state, grads, tx)
        return state.replace(model_state=model_state), metrics

    return step


batches = data.batches


def encode(config, state):
    """The frozen encoder without its head: images in [0, 1] or rows to features."""
    return images.make_encoder(make_model(config), state.params, state.model_state)


def evaluate(config, state):
    """Errors of a readout of frozen features on the first set, see `measure.readout`.

    "head_mae" is that of the network's own output, where it has one.
    """
    found = data.of(config)
    train, test = found.train, getattr(found, config.eval.split)
    parts = [measure.encode(encode(config, state), rows) for rows in (train, test)]
    results = measure.readout(*parts, found.scale, config.eval.few_labels)
    if config.loss.objective == "l1":
        variables = {"params": state.params, "batch_stats": state.model_state}
        model = make_model(config)
        direct = measure.encode(
            lambda x: model.apply(jax.device_get(variables), x, train=False), test
        )
        errors = np.abs(25 * direct.features[:, 0] - direct.label)
        results["head_mae"] = found.scale * float(np.mean(errors))
    return results


def run(config, workdir):
    """Trains every method on every set, reads them out and writes the report."""
    page = Report("SupReMix", __doc__.partition("\n")[0])
    results = {}
    for name in config.data.sets:
        of_set = training.changed(config, {"data.sets": (name,)})
        place = f"{workdir}/{name}"
        trained = training.train_each(
            {method: METHODS[method] for method in config.methods},
            of_set,
            place,
            init,
            make_step,
            batches,
            evals=lambda own: {
                "watch": lambda state: measure.watch(own, encode(own, state))
            },
            eval_every=config.watch.every,
        )
        trained["random_init"] = of_set, init(of_set)
        scored = {m: evaluate(*pair) for m, pair in trained.items()}
        found = data.of(of_set)
        test = getattr(found, config.eval.split)
        features = {m: measure.encode(encode(*p), test) for m, p in trained.items()}
        results |= {
            f"{name}/{m}/{key}": x
            for m, row in scored.items()
            for key, x in row.items()
        }
        report.add_set(page, config, name, found, scored, features, place)
    page.config(training.config_text(config))
    page.write(workdir)
    return results
