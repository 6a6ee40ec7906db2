"""The report of DebCSE."""
from contrastive_jax import training
from contrastive_jax.report import Report
def write(workdir, doc, config, results, trained, own):
    page = Report("DebCSE", doc.partition("\n")[0])
    page.results(results)
    page.config(training.config_text(config))
    page.write(workdir)
