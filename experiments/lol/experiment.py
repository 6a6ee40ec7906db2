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
TruthfulQA and models of 7 billion; the amateur is the same model after three examples
with false answers (a prompt that makes it lie; the paper tunes one), the weak model of
CD is the same model that sees the last word only. With an empty `model.path` small
models are trained on a synthetic corpus with myths, the amateur by tuning on myths.
"""

import jax
import jax.numpy as jnp

from contrastive_jax import training
from contrastive_jax.tasks import language_models as lms
from experiments.lol import data, measure, report


def make_model(config, axis_name=None):
    """The decoder that is trained on the corpus."""
    return lms.make_decoder(config.model, len(data.words(config.data)))


def make_optimizer(config):
    """With warm-up and cosine decay."""
    return training.make_optimizer(**config.optim, num_steps=config.train.num_steps)


def init(config):
    """The state at step 0 of a model of the corpus."""
    return lms.init(config, make_model(config))


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`: predicts the last word of each line."""
    return lms.make_step(config, make_model(config), axis_name)


batches = data.corpus_batches


def train_readers(config, workdir):
    """The base, the weak model, and the base tuned on myths."""
    tune, weak = dict(config.tune), dict(config.weak)
    configs = {
        "base": config,
        "weak": training.changed(config, {f"model.{k}": x for k, x in weak.items()}),
        "amateur": training.changed(
            config,
            {
                "data.lines": "myths",
                "train.num_steps": tune["num_steps"],
                "optim.learning_rate": tune["learning_rate"],
                "optim.warmup_steps": 0,
            },
        ),
    }
    start, languages, words = None, {}, data.words(config.data)

    def from_base(own):
        return init(own).replace(params=jax.tree.map(jnp.asarray, start))

    for name, own in configs.items():
        begin = from_base if name == "amateur" else init
        place = f"{workdir}/{'lol' if name == 'base' else name}"
        state = training.train(own, place, begin, make_step, batches)
        params = jax.device_get(state.params)
        start = params if name == "base" else start
        languages[name] = lms.word_language(make_model(own), params, words)
    return {**languages, "truth": languages["base"]}


def load(config, workdir):
    """The four readers; SmolLM2 is all of them, with other prompts."""
    if not config.model.path:
        return train_readers(config, workdir)
    return dict.fromkeys(measure.READERS, lms.load(config.model))


def make_questions(config, languages):
    """Questions with true and false answers."""
    d = config.data
    if d.file:
        return data.file_questions(d.file, d.questions)
    if not config.model.path:
        return data.corpus_questions(config)
    encode = languages["base"].encode
    return data.country_questions(config.seed, d.questions, d.false, encode)


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
