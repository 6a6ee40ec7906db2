"""SimCTG and contrastive search: text that does not repeat itself (Brown, SmolLM2).

Special about it:
- Training: the likelihood and a margin between the representations of the tokens of a
  text (`simctg.simctg`, eq. 2 and 3); isotropy by `evaluation.token_isotropy`.
- Decoding (`decoding.contrastive_search`, eq. 5) needs no training: the same rules
  decode the trained models and a pretrained one.
- Baselines: greedy, beam, top-k and nucleus; the ablation is `loss.margin` = 0 ("mle").

Reference: Su et al. 2022, arXiv:2202.06417; Su and Collier 2023, arXiv:2210.14140.

Deviations: cosine decay, no clipping of gradients (the trainer clips a running sum
after each micro-batch); a small model from random weights on Brown instead of GPT-2 on
Wikitext; rows are cut from whole texts; the judge of coherence is the model itself, not
OPT; MAUVE on its mean hidden states, with few texts.
"""

import functools

import jax
import jax.numpy as jnp
import ml_collections

from contrastive_jax import models, parallel, training
from contrastive_jax.methods import simctg
from contrastive_jax.models import pretrained
from contrastive_jax.tasks import language_models
from experiments.simctg import data, measure, report

METHODS = {"mle": {"loss.margin": 0.0}, "simctg": {}}


def make_model(config, axis_name=None):
    """A decoder of the GPT-2 type."""
    kind = dict(norm="layer", positions="learned", gated=False, use_bias=True)
    return models.Decoder(**config.model, **kind)


def make_optimizer(config):
    """With warm-up and cosine decay."""
    return training.make_optimizer(**config.optim, num_steps=config.train.num_steps)


def init(config, params=None):
    """The state at step 0; from random parameters where none are given."""
    if params is None:
        rng = jax.random.key(config.seed)
        params = language_models.init_params(make_model(config), rng)
    fields = training.init_fields(config.seed, params, make_optimizer(config))
    return training.TrainState(**fields)


def start_params(config):
    """Parameters of the model to start from, with its table as the head; or None."""
    if not config.start.path:
        return None
    section = dict(path=config.start.path, dtype="float32")
    params = language_models.load(section).variables["params"]
    return {name: value for name, value in params.items() if name != "head"}


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; batch: see `data.rows_of`."""
    model, tx = make_model(config), make_optimizer(config)

    def step(state, batch):
        tokens, where = batch["tokens"], batch["where"]

        def loss_fn(params):
            variables = {"params": params}
            hidden = model.apply(variables, tokens[:, :-1], where=where[:, :-1]).last
            return simctg.simctg(
                hidden,
                model.apply(variables, hidden, method="logits"),
                jnp.where(where[:, 1:], tokens[:, 1:], -100),
                margin=config.loss.margin,
                where=where[:, :-1],
            )

        run = parallel.value_and_grad(loss_fn, axis_name, has_aux=True)
        (loss, parts), grads = run(state.params)
        state = training.apply_gradients(state, grads, tx)
        norm = training.global_norm(grads)
        return state, {"loss": loss, **parts, "grad_norm": norm}

    return step


batches = data.batches


def as_language(config, state):
    """A trained model with its tokenizer; no token ends a text."""
    variables = {"params": jax.device_get(state.params)}
    parts = make_model(config), variables, data.tokenizer(config), ()
    return pretrained.Pretrained(*parts)


def decode_all(config, language, settings, alphas=()):
    """{rule: texts} of a model, the real continuations as "human", and the prompts."""
    prompts, real = data.passages(config, language.encode, settings)
    seed, frozen = config.seed, ml_collections.FrozenConfigDict(settings)
    texts = {"human": measure.judge(language, prompts, real)}
    for rule in config.eval.rules:
        texts[rule] = measure.decode(language, prompts, rule, frozen, seed)
    for alpha in alphas:
        name = measure.name_of("contrastive", alpha=alpha)
        swept = measure.decode(language, prompts, "contrastive", frozen, seed, alpha)
        texts[name] = swept
    return texts, prompts


def evaluate(config, trained):
    """Perplexity and isotropy of the models; measures of their texts by every rule.

    Returns:
      the measures; isotropy of each layer {part: {model: values}}; texts and prompts of
      each model; the models.
    """
    e, own = config.eval, {name: as_language(*both) for name, both in trained.items()}
    first = next(iter(trained.values()))[0]
    random = as_language(first, init(first, start_params(first)))
    rows = data.rows_of(config, e.split)
    rows = {name: x[:: max(len(x) // e.rows, 1)][: e.rows] for name, x in rows.items()}
    results, layers = {}, {"trained": {}}
    for name, language in {"before training": random, **own}.items():
        perplexity, layers["trained"][name] = measure.read(language, rows)
        if name in own:
            results[f"{name}/perplexity"] = perplexity
            results[f"{name}/isotropy"] = float(layers["trained"][name][-1])
    languages = {
        name: (language, e.trained, e.alphas) for name, language in own.items()
    }
    large = config.pretrained.path
    language = language_models.load(config.pretrained) if large else own["simctg"]
    languages["pretrained"] = language, e.pretrained, ()
    texts = {}
    for name, (language, settings, alphas) in languages.items():
        by_rule, prompts = decode_all(config, language, settings, alphas)
        texts[name] = by_rule, prompts
        for rule, x in by_rule.items():
            values = measure.measures(x, by_rule["human"], e.clusters, config.seed)
            results |= {f"{name} {rule}/{key}": value for key, value in values.items()}
    prompts = jnp.concatenate([prompts, texts["pretrained"][0]["human"].tokens], axis=1)
    rows = {"tokens": prompts, "where": jnp.ones(prompts.shape, bool)}
    perplexity, isotropy = measure.read(language, rows)
    layers["pretrained"] = {"pretrained": isotropy}
    results["pretrained/perplexity"] = perplexity
    results["pretrained/isotropy"] = float(isotropy[-1])
    return results, layers, texts, {name: x[0] for name, x in languages.items()}


def run(config, workdir):
    """Both trainings, evaluation and the report; returns the final metrics."""
    first = functools.partial(init, params=start_params(config))
    trained = training.train_each(METHODS, config, workdir, first, make_step, batches)
    results, layers, texts, languages = evaluate(config, trained)
    report.write(workdir, config, results, layers, texts, languages, __doc__)
    return results
