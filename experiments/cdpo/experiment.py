"""cDPO: which tokens spoil a wrong answer, and preferences weighted by them.

Special about it:
- Copies of a model tuned on its right and on its wrong answers are contrasted; a token
  with a low `cdpo.contrastive_estimation_score` is critical.
- `cdpo.cdpo` is DPO with these weights on the rejected answer's tokens, in the paper's
  form (`loss.form=sequence`) and the released code's (`token`). `loss.weighted=False`
  gives all tokens weight 1: DPO.
- Log-probabilities come from hidden states by `losses.linear_log_probs`, so logits of
  all tokens are never held.

Reference: Lin et al. 2024, arXiv:2411.19943; chenzhiling9954/Critical-Tokens-Matter.

Deviations: chains of digits whose critical tokens are known, a small decoder trained
here and tuned as a whole; cosine decay everywhere, as for all baselines; adapters
without dropout; the last step instead of the best on validation examples.
"""

import functools
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax import losses, models, parallel, training
from contrastive_jax.methods import cdpo
from contrastive_jax.models.pretrained.loading import touch
from experiments.cdpo import data, measure, report
from experiments.cdpo.model import lora_init, lora_merge

STAGES = ("predict", "prefer")
METHODS = {
    "sft": {"stage": "predict"},
    "dpo": {"loss.weighted": False},
    "cdpo": {},
    "dpo_token": {"loss.weighted": False, "loss.form": "token"},
    "cdpo_token": {"loss.form": "token"},
}


@chex.dataclass(frozen=True)
class State(training.TrainState):
    """Adds frozen weights.

    Attributes:
      base: what adapters are added to, and the reference of preferences; {} where a
        model is trained as a whole to predict.
    """

    base: chex.ArrayTree


def make_model(config, axis_name=None):
    """The decoder."""
    sizes = config.model.to_dict()
    return models.Decoder(**sizes | dict(dtype=jnp.dtype(config.model.dtype)))


def make_optimizer(config):
    """With warm-up and cosine decay."""
    return training.make_optimizer(**config.optim, num_steps=config.train.num_steps)


def init(config, base=None):
    """The state at step 0, from random weights or given ones."""
    rng = jax.random.key(config.seed)
    if base is None:
        model, tokens = make_model(config), jnp.zeros((1, 2), jnp.int32)
        base = jax.jit(functools.partial(model.init, method=touch))(rng, tokens)[
            "params"
        ]
    adapt = config.lora
    if adapt.rank:
        options = dict(rank=adapt.rank, targets=adapt.targets, blocks=adapt.blocks)
        params, frozen = lora_init(rng, base, **options), base
    else:
        params = jax.tree.map(jnp.copy, base)
        frozen = base if config.stage == "prefer" else {}
    tx = make_optimizer(config)
    return State(**training.init_fields(config.seed, params, tx), base=frozen)


def weights_of(config, params, base):
    """All weights of the decoder."""
    if not config.lora.rank:
        return params
    return lora_merge(base, params, config.lora.alpha / config.lora.rank)


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; batch: see `data.batches`."""
    if config.stage not in STAGES:
        raise ValueError(f"stage: expected one of {STAGES}, got {config.stage!r}")
    model, tx, own = make_model(config), make_optimizer(config), config.loss

    def step(state, batch):
        def log_probs(weights, side):
            tokens, where = batch[side], batch[f"{side}_response"]
            return losses.linear_log_probs(
                measure.hidden_states(model, weights, tokens),
                measure.head_of(weights),
                tokens[:, 1:],
                where=where,
                chunk=own.chunk,
            )

        def predict(params):
            weights, tokens = weights_of(config, params, state.base), batch["tokens"]
            return losses.linear_cross_entropy(
                measure.hidden_states(model, weights, tokens),
                measure.head_of(weights),
                tokens[:, 1:],
                where=batch["response"],
                chunk=own.chunk,
                reduce_fn=parallel.mean(axis_name),
            ), {}

        def prefer(params):
            sides, weights = ("chosen", "rejected"), batch["rejected_weights"]
            mine = weights_of(config, params, state.base)
            pair = {side: log_probs(mine, side) for side in sides}
            fixed = {side: log_probs(state.base, side) for side in sides}
            loss = cdpo.cdpo(
                **pair,
                reference_chosen=fixed["chosen"],
                reference_rejected=fixed["rejected"],
                rejected_weights=weights if own.weighted else jnp.ones_like(weights),
                chosen_tokens=batch["chosen_response"],
                rejected_tokens=batch["rejected_response"],
                beta=own.beta,
                label_smoothing=own.label_smoothing,
                form=own.form,
            )
            drift = {k: jnp.mean(jnp.sum(pair[k] - fixed[k], axis=1)) for k in sides}
            return loss, {f"log_ratio_{k}": x for k, x in drift.items()}

        loss_fn = predict if config.stage == "predict" else prefer
        (loss, more), grads = parallel.value_and_grad(loss_fn, axis_name, has_aux=True)(
            state.params
        )
        new = training.apply_gradients(state, grads, tx)
        return new, {"loss": loss, "grad_norm": training.global_norm(grads), **more}

    return step


batches = data.batches


def fit(config, workdir, *, base=None, arrays=None, **changes):
    """All weights of a model trained at a stage, from `base` on `arrays`."""
    own = training.changed(config, changes)
    state = training.train(
        own,
        workdir,
        functools.partial(init, base=base),
        make_step,
        functools.partial(batches, arrays=arrays),
    )
    return jax.device_get(weights_of(own, state.params, state.base))


def critical_tokens(config, base, workdir):
    """The sets sampled from a model, and scores of their rejected traces' tokens."""
    model, d = make_model(config), config.data
    asked = data.draw(config, data.ASK, d.questions)
    rng = jax.random.key(config.seed)
    drawn = measure.traces(model, base, asked, rng=rng, samples=d.samples)
    sets, weights = data.sort(asked, drawn), {"base": base}
    for side in ("positive", "negative"):
        rows = data.predict_rows(config, getattr(sets, side))
        steps, rate = config.contrast.num_steps, config.contrast.learning_rate
        changes = {"train.num_steps": steps, "optim.learning_rate": rate}
        place = pathlib.Path(workdir) / side
        weights[side] = fit(config, place, base=base, arrays=rows, **changes)
    return sets, measure.detectors(config, model, weights, sets.rejected)


def evaluate(config, weights):
    """Share of test questions answered right by the greedy trace."""
    chains = data.draw(config, data.TEST, config.data.test)
    return {"accuracy": measure.accuracy(make_model(config), weights, chains)}


def run(config, workdir):
    """Base, critical tokens, every method at every budget, and the report."""
    place = pathlib.Path(workdir)
    base = fit(config, place / "predict", stage="predict")
    results = {f"base/{k}": x for k, x in evaluate(config, base).items()}
    sets, scores = critical_tokens(config, base, workdir)
    response = data.response(config, sets.rejected)
    critical = measure.first_wrong(sets.rejected, sets.truth)
    results |= measure.localization(scores, critical, response)
    results["pairs"] = len(sets.chosen)
    weights = cdpo.cdpo_weights(
        1 - scores["contrast"], response, ends=sets.rejected[:, 1:] == data.END
    )
    rows = {
        "predict": data.predict_rows(config, sets.chosen),
        "prefer": data.prefer_rows(
            config, sets.chosen, sets.rejected, np.asarray(weights)
        ),
    }
    budgets = list(zip(config.tune.num_steps, config.tune.learning_rates, strict=True))
    for steps, rate in budgets:
        budget = {"train.num_steps": steps, "optim.learning_rate": rate}
        for name, changes in METHODS.items():
            changes = {"stage": "prefer", **budget, **changes}
            title = f"{steps} steps, {rate:g}"
            print(f"{name}: {title}", flush=True)
            folder = place / f"{steps}_{rate:g}" / name
            tuned = fit(
                config, folder, base=base, arrays=rows[changes["stage"]], **changes
            )
            found = evaluate(config, tuned)
            results |= {f"{title}/{name}/{k}": x for k, x in found.items()}
        for form in ("", "_token"):
            pair = [results[f"{title}/{m}{form}/accuracy"] for m in ("cdpo", "dpo")]
            results[f"{title}/cdpo{form} less dpo{form}"] = pair[0] - pair[1]
    report.write(workdir, __doc__, config, results, sets, scores, METHODS)
    return results
