"""SepCLR: what two sets share apart from what one of them has alone.

Special about it:
- Two encoders. The common one aligns views of all rows and spreads them; the salient
  one does so for target rows and holds background rows at 0: `sepclr.sepclr`.
- `sepclr.joint_entropy` (k-JEM) spreads both together, so that neither repeats the
  other; `loss.jem_weight=0` is the ablation `no_jem`.
- Leakage tests: each factor is probed from either side (`measure.leakage`).

Reference: Louiset et al. 2024, arXiv:2402.11928;
neurospin-projects/2024_rlouiset_sep_clr.

Deviations: sets and networks are ours; a probe is solved with a penalty chosen on
training rows; accuracies are balanced on all sets; of the paper's variational baselines
the first (cVAE) is here, on plain images, its representation the mean of the code;
contrastive PCA stands for methods without training.
"""

import jax
import jax.numpy as jnp

from contrastive_jax import parallel, training
from contrastive_jax.data import make_augment
from contrastive_jax.methods import sepclr
from contrastive_jax.report import Report
from contrastive_jax.tasks import images
from experiments.sepclr import data, measure, model, report

METHODS = {
    "sepclr": {},
    "no_jem": {"loss.jem_weight": 0.0},
    "common_only": {
        "loss.jem_weight": 0.0,
        "loss.salient_weight": 0.0,
        "loss.information_less_weight": 0.0,
    },
    "cvae": {"loss.objective": "cvae"},
}


def make_model(config, axis_name=None):
    """Both encoders; of "cvae" with a decoder."""
    if config.loss.objective == "cvae":
        return model.make_autoencoder(config.model, data.shape_of(config), axis_name)
    return model.make(config.model, axis_name)


def make_optimizer(config):
    """With warm-up and cosine decay."""
    return training.make_optimizer(**config.optim, num_steps=config.train.num_steps)


def init(config):
    """The state at step 0."""
    net, tx = make_model(config), make_optimizer(config)
    rng, shape = jax.random.key(config.seed), data.shape_of(config)
    variables = images.fresh_variables(net, rng, shape)
    return training.TrainState(
        **training.init_fields(
            config.seed, variables["params"], tx, variables.get("batch_stats", {})
        )
    )


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; image [n, h, w, c], is_target [n]."""
    net, tx = make_model(config, axis_name), make_optimizer(config)
    augment = make_augment(**config.data.augment.to_dict())
    rate = training.warmup_cosine(
        config.optim.learning_rate, config.train.num_steps, config.optim.warmup_steps
    )

    objective, weights = config.loss.objective, config.loss.to_dict()
    del weights["objective"]

    def contrast(params, state, batch):
        views = images.two_views(
            (augment, augment), batch["image"], state.rng, state.step, axis_name
        )
        out, model_state = training.apply_model(
            net, params, state.model_state, jnp.concatenate(views)
        )
        pairs = [tuple(jnp.split(x, 2)) for x in out]
        everyone = (*pairs, batch["is_target"])
        common, salient, is_target = parallel.all_gather(everyone, axis_name)
        loss, parts = sepclr.sepclr(common, salient, is_target, **weights)
        return loss, (parts, model_state)

    def reconstruct(params, state, batch):
        x, is_target = images.to_unit(batch["image"]), batch["is_target"]
        keys = parallel.example_keys(state.rng, state.step, len(x), axis_name)
        draw = jax.vmap(lambda key: jax.random.normal(key, (2 * config.model.dim,)))
        out, model_state = training.apply_model(
            net, params, state.model_state, x, draw(keys), is_target
        )
        logits, *codes = out
        loss = model.negative_elbo(logits, x, *codes, is_target)
        return loss, ({}, model_state)

    loss_fn = reconstruct if objective == "cvae" else contrast

    def step(state, batch):
        (loss, (parts, model_state)), grads = parallel.value_and_grad(
            loss_fn, axis_name, has_aux=True
        )(state.params, state, batch)
        metrics = {
            "loss": loss,
            **parts,
            "grad_norm": training.global_norm(grads),
            "learning_rate": rate(state.step),
        }
        state = training.apply_gradients(state, grads, tx)
        return state.replace(model_state=model_state), metrics

    return step


batches = data.batches


def encode(config, state):
    """Both representations side by side: images in [0, 1] to [n, 2 dim]."""
    return images.make_encoder(make_model(config), state.params, state.model_state)


def evaluate(config, state):
    """Balanced accuracies (%) of both factors from both sides, on target rows."""
    found = data.of(config)
    splits = found.train, getattr(found, config.eval.split)
    sides = [measure.encode(encode(config, state), s.image) for s in splits]
    return measure.leakage(sides, splits)


def run(config, workdir):
    """Trains every method on every pair of sets, probes it and writes the report."""
    page = Report("SepCLR", __doc__.partition("\n")[0])
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
        found = data.of(of_set)
        splits = found.train, getattr(found, config.eval.split)
        scored = {m: evaluate(*pair) for m, pair in trained.items()}
        scored["cpca"] = measure.leakage(
            measure.contrastive_pca(splits, config.model.dim), splits
        )
        results |= {
            f"{name}/{m}/{key}": x
            for m, row in scored.items()
            for key, x in row.items()
        }
        shown = measure.targets(splits[1], config.eval.map_rows)
        sides = {m: measure.encode(encode(*p), shown.image) for m, p in trained.items()}
        report.add_set(page, name, found, scored, sides, shown, place)
    page.config(training.config_text(config))
    page.write(workdir)
    return results
