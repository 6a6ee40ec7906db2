"""AdaCAD: context-aware decoding as strong as the conflict with memory.

Special about it:
- A question is read with a context and without; the divergence of the two next-token
  distributions is the strength of the contrast, at every step and for every row:
  `adacad.adacad_alpha`, `adacad.adacad_logits` (section 3).
- One reading of all answers counts for all rules (`measure.answer`); the loop of two
  streams, `decoding.two_streams`, writes the report's examples (`measure.make_decode`).
- `decode.min_alpha=1` turns the adaptive strength off.
- Facts are those that the model completes rightly without a context, so that each
  question has a memory that a context can contradict: `measure.known_facts`.

Reference: Wang et al. 2025, arXiv:2409.07394 (CAD: arXiv:2305.14739, COIECD:
arXiv:2402.11893) and their released code.

Deviations: one strength per row in a batch (released code: batches of one); SmolLM2 of
135 million parameters and facts about countries in place of Llama 2 and six sets of
questions; an answer counts if greedy decoding begins with its tokens. With an empty
`model.path` a small model is trained on a synthetic knowledge base; the paper trains
nothing.
"""

from contrastive_jax import training
from contrastive_jax.tasks import language_models as lms
from experiments.adacad import data, measure, report


def make_model(config, axis_name=None):
    """The decoder that is trained on the knowledge base."""
    return lms.make_decoder(config.model, len(data.words(config.data)))


def make_optimizer(config):
    """With warm-up and cosine decay."""
    return training.make_optimizer(**config.optim, num_steps=config.train.num_steps)


def init(config):
    """The state at step 0 of the model of the knowledge base."""
    return lms.init(config, make_model(config))


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`: predicts the last word of each line."""
    return lms.make_step(config, make_model(config), axis_name)


batches = data.knowledge_batches


def load(config, workdir):
    """The language model of the config; the small one is trained first."""
    if config.model.path:
        return lms.load(config.model)
    state = training.train(config, f"{workdir}/knowledge", init, make_step, batches)
    words = data.words(config.data)
    return lms.word_language(make_model(config), state.params, words)


def make_queries(config, language):
    """Questions of each kind."""
    if config.data.file:
        return data.file_queries(config.data.file, config.data.queries)
    if not config.model.path:
        return data.knowledge_queries(config)
    known = measure.known_facts(config, language)
    return data.country_queries(known, config.seed)


def evaluate(config, language, queries):
    """Accuracy (%) of every rule on every kind of question; mean divergences."""
    answers = measure.answer(config, language, queries)
    return answers, measure.summary(queries, answers)


def run(config, workdir):
    """The model, the questions, the answers by every rule, the report."""
    language = load(config, workdir)
    queries = make_queries(config, language)
    answers, results = evaluate(config, language, queries)
    report.write(workdir, __doc__, config, language, queries, answers, results)
    return results
