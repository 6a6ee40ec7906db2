"""cDPO: which tokens spoil a wrong answer, and preferences weighted by them.

Special about it:
- Copies of a model tuned on its right and on its wrong answers are contrasted; a token
  with a low `cdpo.contrastive_estimation_score` is critical.
- `cdpo.cdpo` is DPO with these weights on the rejected answer's tokens, in the paper's
  form (`loss.form=sequence`) and the released code's (`token`). `loss.weights=none`
  gives all tokens weight 1: DPO; `probability` weighs by the model's own probability.
- Log-probabilities come from hidden states by `losses.linear_log_probs`, so logits of
  all tokens are never held.

Reference: Lin et al. 2024, arXiv:2411.19943; chenzhiling9954/Critical-Tokens-Matter.

Deviations: chains of digits whose critical tokens are known, a small decoder trained
here and tuned as a whole; cosine decay everywhere, as for all baselines; adapters
without dropout, one for q, k and v and one for gate and up together; the last step
instead of the best on validation examples.
"""

import functools
import pathlib

import chex
import jax
import jax.numpy as jnp

from contrastive_jax import losses, models, parallel, training
from contrastive_jax.methods import cdpo
from contrastive_jax.tasks import language_models
from experiments.cdpo import data, measure, report

STAGES = ("predict", "prefer")
METHODS = {
    "sft": {"stage": "predict"},
    "dpo": {"loss.weights": "none"},
    "cdpo": {},
    "dpo_token": {"loss.weights": "none", "loss.form": "token"},
    "cdpo_token": {"loss.form": "token"},
    "cdpo_by_probability": {"loss.weights": "probability"},
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
        base = language_models.init_params(make_model(config), rng)
    if config.lora:
        own = {k: config.lora[k] for k in ("rank", "targets", "blocks")}
        params, frozen = models.lora_init(rng, base, **own), base
    else:
        params = jax.tree.map(jnp.copy, base)
        frozen = base if config.stage == "prefer" else {}
    tx = make_optimizer(config)
    return State(**training.init_fields(config.seed, params, tx), base=frozen)


def weights_of(config, params, base):
    """All weights of the decoder."""
    if not config.lora:
        return params
    scale = config.lora.alpha / config.lora.rank
    return models.lora_merge(base, params, scale=scale)


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
            weights = jnp.ones_like(weights) if own.weights == "none" else weights
            mine = weights_of(config, params, state.base)
            pair = {side: log_probs(mine, side) for side in sides}
            fixed = {side: log_probs(state.base, side) for side in sides}
            loss = cdpo.cdpo(
                **pair,
                reference_chosen=fixed["chosen"],
                reference_rejected=fixed["rejected"],
                rejected_weights=weights,
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


def contrast(config, base, positive, negative, workdir):
    """Weights of a model, and of it tuned on right and on wrong answers."""
    steps, rate = config.contrast.num_steps, config.contrast.learning_rate
    changes = {"train.num_steps": steps, "optim.learning_rate": rate}
    place, weights = pathlib.Path(workdir), {"base": base}
    for side, arrays in (("positive", positive), ("negative", negative)):
        print(f"{side}:", flush=True)
        weights[side] = fit(config, place / side, base=base, arrays=arrays, **changes)
    return weights


def evaluate(config, weights, stream=data.TEST):
    """Share of a stream's questions answered right by the greedy trace."""
    chains = data.draw(config, stream, config.data.test)
    return {"accuracy": measure.accuracy(make_model(config), weights, chains)}


def fit_base(config, workdir):
    """(steps, weights) of the shortest training with enough held-out answers right."""
    for steps in config.base.num_steps:
        folder = pathlib.Path(workdir) / f"base_{steps}" / "predict"
        base = fit(config, folder, **{"stage": "predict", "train.num_steps": steps})
        if evaluate(config, base, data.CHOOSE)["accuracy"] >= config.base.accuracy:
            break
    return steps, base


def run(config, workdir):
    """Base, critical tokens, every method at every budget, and the report."""
    if config.champ:
        return run_champ(config, workdir)
    place, d = pathlib.Path(workdir), config.data
    steps, base = fit_base(config, workdir)
    results = {"base/steps": steps, "base/accuracy": evaluate(config, base)["accuracy"]}
    asked, model = data.draw(config, data.ASK, d.questions), make_model(config)
    rng = jax.random.key(config.seed)
    drawn = measure.traces(model, base, asked, rng=rng, samples=d.samples)
    sets = measure.sort(asked, drawn)
    sides = (data.predict_rows(config, x) for x in (sets.positive, sets.negative))
    tuned = contrast(config, base, *sides, workdir)
    scores = measure.detectors(config, model, tuned, sets.rejected)
    response = data.response(config, sets.rejected)
    critical = measure.first_wrong(sets.rejected, sets.truth)
    results |= measure.localization(scores, critical, response)
    results["pairs"] = len(sets.chosen)
    rows = {"predict": data.predict_rows(config, sets.chosen)}
    for name in ("contrast", "probability"):
        pair = sets.chosen, sets.rejected
        weights = measure.token_weights(config, sets, scores[name])
        rows[name] = data.prefer_rows(config, *pair, weights)
    rows["none"] = rows["contrast"]  # not looked at
    tune = config.tune
    for steps, rate in zip(tune.num_steps, tune.learning_rates, strict=True):
        budget = {"train.num_steps": steps, "optim.learning_rate": rate}
        title, at = f"{steps} steps at {rate:g}", {}
        for name in config.methods:
            print(f"{name}, {title}:", flush=True)
            own = dict(stage="prefer") | budget | METHODS[name]
            kind = own.get("loss.weights", config.loss.weights)
            arrays = rows["predict" if own["stage"] == "predict" else kind]
            folder = place / f"{steps}_{rate:g}" / name
            tuned = fit(config, folder, base=base, arrays=arrays, **own)
            at[name] = evaluate(config, tuned)["accuracy"]
        results |= {f"{title}/{name}": x for name, x in at.items()}
    report.write(workdir, __doc__, config, results, sets, scores)
    return results


def run_champ(config, workdir):
    """Whether the contrast finds the first wrong steps that people marked."""
    language = language_models.load_path(config.champ.path, "float32")
    encode = functools.partial(language.tokenizer.encode, add_special_tokens=False)
    # On the host: a step consumes the state, and what is frozen in it.
    sets = data.champ(config, encode)
    base = jax.device_get(language.variables["params"])
    rows = [
        {"tokens": x.tokens, "response": x.response}
        for x in (sets.positive, sets.negative)
    ]
    weights = contrast(config, base, *rows, workdir)
    marked = sets.marked
    scores = measure.detectors(config, make_model(config), weights, marked.tokens)
    results = measure.localization(scores, marked.critical, marked.response)
    share = marked.critical.sum(axis=1) / marked.response.sum(axis=1)
    results |= {"first/chance": float(share.mean()), "solutions": len(share)}
    report.write_champ(workdir, __doc__, config, results, sets, scores, language)
    return results
