"""LOL: contrast with a hallucinating amateur at the last and at a lower layer.

Special about it:
- The contrast of ICD at the last layer, the same at a lower layer read out early, and
  what an instruction to be truthful changes, added up (reconstructed):
  `lol.lol_scores`.
- The lower layer is, for each token, the one that differs most from the last one, as in
  DoLa: `decoding.premature_layer`; fixed layers are in the table too.
- `rule.lams=(0.0,)` turns the lower layer off: ICD (`decoding.contrast`).

Reference: Chen et al. 2024, arXiv:2408.08769 (no code published, only the abstract
could be opened); ICD: arXiv:2312.15710, DoLa: arXiv:2309.03883, CD: arXiv:2210.15097.

Deviations: SmolLM2 of 135 million parameters and facts about countries in place of
TruthfulQA and models of 7 billion; the amateur is the same model tuned by adapters on
false answers about other countries (`tune`; the paper's on 10,000 generated ones), and
beside it one by prompt, after three false examples; the weak model of CD is the same
model that sees the last word only. With an empty `model.path` small models are trained
on a synthetic corpus with myths, the amateur by tuning on myths.
"""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp

from contrastive_jax import models, training
from contrastive_jax.tasks import language_models as lms
from experiments.lol import data, measure, report


@chex.dataclass(frozen=True)
class State(training.TrainState):
    """Adds frozen weights.

    Attributes:
      base: what adapters are added to; {} where all weights are trained.
    """

    base: chex.ArrayTree


def make_model(config, axis_name=None):
    """The decoder that is trained on the corpus."""
    return lms.make_decoder(config.model, len(data.words(config.data)))


def make_optimizer(config):
    """With warm-up and cosine decay."""
    return training.make_optimizer(**config.optim, num_steps=config.train.num_steps)


def init(config, base=None):
    """The state at step 0: random weights, or given ones to tune (`tune.lora`)."""
    rng, frozen = jax.random.key(config.seed), {}
    if base is None:
        params = lms.init_params(make_model(config), rng)
    elif config.tune.lora:
        own = {k: config.tune.lora[k] for k in ("rank", "targets", "blocks")}
        params, frozen = models.lora_init(rng, base, **own), base
    else:
        params = jax.tree.map(jnp.asarray, base)
    fields = training.init_fields(config.seed, params, make_optimizer(config))
    return State(**fields, base=frozen)


def weights_of(config, params, state):
    """All weights of the decoder."""
    if not state.base:
        return params
    scale = config.tune.lora.alpha / config.tune.lora.rank
    return models.lora_merge(state.base, params, scale=scale)


def make_step(config, axis_name=None, *, decoder=None):
    """`step(state, batch) -> (state, metrics)`: predicts the last words of each line.

    A batch has `tokens` [n, t] and `where` [n, t], the tokens to predict.
    """
    weights = functools.partial(weights_of, config)
    return lms.make_step(config, decoder or make_model(config), axis_name, weights)


batches = data.corpus_batches


def tune(config, workdir, decoder, base, batches):
    """Weights of the amateur: those of the base, tuned on false answers."""
    own = training.changed(
        config,
        {
            "data.lines": "myths",
            "data.batch_size": config.tune.batch_size,
            "train.num_steps": config.tune.num_steps,
            "optim.learning_rate": config.tune.learning_rate,
            "optim.warmup_steps": 0,
        },
    )
    state = training.train(
        own,
        f"{workdir}/amateur",
        functools.partial(init, base=base),
        functools.partial(make_step, decoder=decoder),
        batches,
    )
    return jax.device_get(weights_of(own, state.params, state))


def train_readers(config, workdir):
    """The base, the weak model, and the base tuned on myths."""
    weak = {f"model.{k}": x for k, x in config.weak.items()}
    languages, words = {}, data.words(config.data)
    for name, own in (("base", config), ("weak", training.changed(config, weak))):
        place = f"{workdir}/{'lol' if name == 'base' else name}"
        state = training.train(own, place, init, make_step, batches)
        params = jax.device_get(state.params)
        languages[name] = lms.word_language(make_model(own), params, words)
    base = languages["base"]
    weights = tune(config, workdir, base.model, base.variables["params"], batches)
    tuned = lms.word_language(base.model, weights, words)
    return {**languages, "truth": base, "tuned": tuned}


def load(config, workdir):
    """The readers; SmolLM2 is all of them but for the amateur that is tuned."""
    if not config.model.path:
        return train_readers(config, workdir)
    base = lms.load(config.model)
    languages = dict.fromkeys(("base", "truth", "weak", *config.amateurs), base)
    if "tuned" in languages:
        # On the host: a step consumes the state, and what is frozen in it.
        params = jax.device_get(base.variables["params"])
        lies = functools.partial(data.false_batches, encode=base.encode)
        weights = tune(config, workdir, base.model, params, lies)
        languages["tuned"] = dataclasses.replace(base, variables={"params": weights})
    return languages


def make_questions(config, languages):
    """Questions with true and false answers."""
    d = config.data
    if d.file:
        return data.file_questions(d.file, d.questions)
    if not config.model.path:
        return data.corpus_questions(config)
    encode = languages["base"].encode
    return data.country_questions(d, config.seed, encode)


def evaluate(config, languages, questions):
    """MC1, MC2 and MC3 (%) of every rule."""
    scored = measure.score(config, languages, questions)
    return scored, measure.summary(scored)


def run(config, workdir):
    """The readers, the questions, all answers by every rule, the report."""
    languages = load(config, workdir)
    questions = make_questions(config, languages)
    scored, results = evaluate(config, languages, questions)
    report.write(workdir, __doc__, config, languages, questions, scored, results)
    return results
