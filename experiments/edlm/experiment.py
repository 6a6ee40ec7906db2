"""EDLM: proposals of masked diffusion, chosen by a sequence energy (19 min, one core).

Special about it:
- Masked diffusion (MDLM): `ebm.masked_diffusion` on `ebm.subs_log_probs`.
- The energy is a language model (`edlm.autoregressive_energy`) or is trained against
  the denoiser's proposals (`edlm.residual_nce`), starting from the denoiser's weights.
- Sampling draws k proposals a step and keeps one by weight: `edlm.diffusion_sample`.
- Judge: a language model of another seed. Ablation: `eval.num_proposals` = 1 is MDLM.

Reference: Xu et al. 2024, arXiv:2410.21357; MinkaiXu/Energy-Diffusion-LLM.

Deviations: the energy has the sign of the paper (`eval.sign` for the released one); no
adaptive normalisation, as time conditioning is off in the released code; the first
token is fixed, since the language model does not score it; cosine schedule; small
models on letters instead of OpenWebText, the language model trained here.
"""

import functools
import itertools
import math
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax import ebm, losses, models, parallel, randomness, states, training
from contrastive_jax.data import streams
from contrastive_jax.methods import edlm
from experiments.edlm import measure, report
from experiments.edlm.model import Networks, SequenceEnergy

STAGES = ("mdlm", "ar", "nce", "judge")


@chex.dataclass(frozen=True)
class State(training.TrainState):
    """Adds averaged parameters and, for "nce", the denoiser that gives the noise.

    Attributes:
      average: moving average of `params`, what is evaluated.
      denoiser: frozen parameters of the MDLM; {} in other stages.
    """

    average: chex.ArrayTree
    denoiser: chex.ArrayTree


def at_stage(config, stage):
    """The same config for another stage, with its number of steps."""
    steps = {**config.later}.get(stage, config.train.num_steps)
    return training.changed(config, {"stage": stage, "train.num_steps": steps})


def make_model(config, axis_name=None):
    """The network of the stage."""
    if config.stage not in STAGES:
        raise ValueError(f"stage: expected one of {STAGES}, got {config.stage!r}")
    settings = config.model.to_dict() | dict(dtype=jnp.dtype(config.model.dtype))
    if config.stage == "nce":
        return SequenceEnergy(**settings)
    return models.LanguageModel(**settings, causal=config.stage != "mdlm")


def make_optimizer(config):
    """With warm-up and cosine decay; the energy has a learning rate of its own."""
    changes = {}
    if config.stage == "nce":
        changes = dict(learning_rate=config.later.nce_learning_rate)
    steps = dict(num_steps=config.train.num_steps)
    return training.make_optimizer(**{**config.optim, **changes, **steps})


def fresh(config):
    """Random parameters of the stage; every stage has a seed of its own."""
    model = make_model(config)
    tokens = jnp.zeros((1, config.data.length), jnp.int32)
    inputs = (tokens, tokens) if config.stage == "nce" else (tokens,)
    rng = jax.random.fold_in(jax.random.key(config.seed), STAGES.index(config.stage))
    init = jax.jit(functools.partial(model.init, train=False))
    return init(rng, *inputs)["params"]


def init(config, denoiser=None):
    """The state at step 0; "nce" starts from the denoiser's table and blocks."""
    params, frozen = fresh(config), {}
    if config.stage == "nce":
        frozen = fresh(at_stage(config, "mdlm")) if denoiser is None else denoiser
        shared = {part: frozen["trunk"][part] for part in ("token", "blocks")}
        params = {**params, **jax.tree.map(jnp.copy, shared)}
    tx = make_optimizer(config)
    fields = training.init_fields(config.seed, params, tx)
    average = states.ema_init(params)
    return State(**fields, average=average, denoiser=frozen)


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; batch: tokens [n, t] int32."""
    model, tx = make_model(config), make_optimizer(config)
    denoiser = make_model(at_stage(config, "mdlm"))
    mask_id = config.model.vocab_size - 1

    def step(s, batch):
        tokens = batch["tokens"]
        n, length = tokens.shape
        keys = parallel.example_keys(s.rng, s.step, n, axis_name)
        total = n * parallel.axis_size(axis_name)
        noise_keys, own_keys, fresh_keys = (
            randomness.fold_keys(keys, i) for i in range(3)
        )
        drawn = randomness.uniform(noise_keys, (n, length + 1))
        rows = parallel.global_rows(n, axis_name)
        times = ebm.antithetic_times(
            drawn[:, 0], rows, total=total, min_t=config.loss.min_t
        )
        chance = ebm.loglinear_schedule(times, eps=config.loss.eps).move_chance
        scored = jnp.broadcast_to(jnp.arange(length)[None] > 0, tokens.shape)
        masked = ebm.mask_tokens(
            drawn[:, 1:], tokens, chance, mask_id=mask_id, where=scored
        )

        def apply(params, keys, *inputs):
            """The model in training, the dropout of each example from its own key."""

            def one(key, *inputs):
                alone, rngs = (x[None] for x in inputs), {"dropout": key}
                return model.apply({"params": params}, *alone, train=True, rngs=rngs)[0]

            return jax.vmap(one)(keys, *inputs)

        def loss_fn(params):
            if config.stage == "mdlm":
                log_probs = ebm.subs_log_probs(
                    apply(params, own_keys, masked), masked, mask_id=mask_id
                )
                return ebm.masked_diffusion(log_probs, tokens, times, where=scored)
            if config.stage == "nce":
                logits = denoiser.apply({"params": s.denoiser}, masked, train=False)
                log_probs = ebm.subs_log_probs(logits, masked, mask_id=mask_id)
                noise = edlm.proposals(fresh_keys, log_probs, 1)[:, 0]
                both = (own_keys, noise_keys), (tokens, noise), (masked, masked)
                energies = apply(params, *map(jnp.concatenate, both))
                return edlm.residual_nce(energies[:n], energies[n:, None])
            logits = apply(params, own_keys, tokens)[:, :-1]
            return losses.token_cross_entropy(logits, tokens[:, 1:])

        loss, grads = parallel.value_and_grad(loss_fn, axis_name)(s.params)
        s = training.apply_gradients(s, grads, tx)
        average = states.ema_update(s.average, s.params, decay=config.loss.ema)
        metrics = {"loss": loss, "grad_norm": training.global_norm(grads)}
        return s.replace(average=average), metrics

    return step


def batches(config, start_step):
    """Shuffled windows: tokens [n, t] int32."""
    data = config.data
    return streams.window_batches(
        streams.load(data.name).train,
        data.length,
        first=data.first,
        batch_size=data.batch_size,
        seed=config.seed + STAGES.index(config.stage),
        start_step=start_step,
    )


def evaluate(config, params):
    """Bits per token, generative perplexity and speed; names say method and steps.

    Args:
      config: all settings.
      params: averaged parameters by stage.

    Returns:
      the measures, and for the report samples by (method, steps) and bounds of log Z.
    """
    e, data, mask_id = config.eval, config.data, config.model.vocab_size - 1
    modules = {stage: make_model(at_stage(config, stage)) for stage in STAGES}
    nets = Networks(params=params, **modules, mask_id=mask_id)
    stream = getattr(streams.load(data.name), e.split)
    tokens = streams.windows(stream, data.length, e.windows, data.first)
    found, log_z = measure.likelihood_bounds(
        nets,
        tokens,
        steps=e.steps,
        times=e.times,
        min_t=config.loss.min_t,
        eps=config.loss.eps,
        num_proposals=e.bound_proposals,
        seed=config.seed,
    )
    start = np.full((e.samples, data.length), mask_id, np.int32)
    start[:, 0] = data.first
    full = dict(proposals=e.num_proposals, window=e.window)
    quick = {
        f"edlm_ar_k{k}_w{w:g}": dict(energy="ar", proposals=k, window=w)
        for k, w in itertools.product(e.quick_proposals, e.quick_windows)
    }
    methods = {
        "mdlm": dict(energy="", proposals=1, window=0.0),
        "edlm_ar": dict(energy="ar", **full),
        "edlm_nce": dict(energy="nce", **full),
        **quick,
    }
    shared = dict(temperature=e.temperature, sign=e.sign)
    shared |= dict(seed=config.seed, repeats=e.repeats)
    samples = {}
    for name, options in methods.items():
        for steps in e.steps:
            samples[name, steps], measures = measure.timed_samples(
                nets, start, steps=steps, **options, **shared
            )
            found |= {f"{name}_{steps}/{key}": x for key, x in measures.items()}
    found["text/entropy"] = measure.unigram_entropy(tokens[:, 1:])
    found["text/perplexity"] = math.exp(measure.mean_nll(nets, "judge", tokens))
    if e.repeats:
        found |= measure.speed_up(found, "mdlm", ["edlm_ar", *quick], e.steps)
    return found, samples, log_z


def run(config, workdir):
    """All stages in order, evaluation and report; returns the final metrics."""
    params = {}
    for stage in STAGES:
        at = at_stage(config, stage)
        place = pathlib.Path(workdir) / stage
        first = functools.partial(init, denoiser=params.get("mdlm"))
        s = training.train(at, place, first, make_step, batches)
        params[stage] = jax.device_get(s.average)
    results, samples, log_z = evaluate(config, params)
    report.write(workdir, __doc__, config, results, samples, log_z, STAGES)
    return results
