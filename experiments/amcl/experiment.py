"""AMCL: several projection heads, and a learned temperature for every pair and head.

Special about it:
- u = cos / t - beta omega(t) of each pair: positives want u large, the most similar
  negative wants it small (eq. 2.1): `amcl.amcl_info_nce`, for SimCLR and MoCo.
- SimSiam: the positives alone, whose targets the heads share (eq. 2.2):
  `amcl.amcl_simsiam`.
- Temperatures from a perceptron on both embeddings: `amcl.pair_temperatures_dot`,
  `amcl.pair_temperatures_concat`.
- One step for all hosts, plain ones included: one head, constant temperature and
  `loss.aggregation` "logsumexp" are NT-Xent and MoCo. Ablation: `model.adaptive`.

Reference: Wang et al. 2024, arXiv:2310.05615; the table in LeiWangR/cl.

Deviations: the published module does not run; the losses follow the table. In place of
the maximum over negatives ("max") there is also a sum ("logsumexp", ours). The bias of
the dot product is ours: temperatures begin where the plain host's are.
"""

import chex
import jax
import jax.numpy as jnp

from contrastive_jax import models as networks
from contrastive_jax import numerics, parallel, similarity, states, training
from contrastive_jax.data import make_augment
from contrastive_jax.methods import amcl
from contrastive_jax.tasks import images
from experiments.amcl import report
from experiments.amcl.model import Heads

PLAIN = {"model.adaptive": False, "loss.aggregation": "logsumexp"}
METHODS = {
    "plain": PLAIN | {"model.heads": 1},
    "heads": PLAIN,  # the ablation
    "amcl": {},
    "amcl_sum": {"loss.aggregation": "logsumexp"},
}


@chex.dataclass(frozen=True)
class State(training.TrainState):
    """Adds MoCo's key encoder and queue; None with other hosts."""

    target: chex.ArrayTree
    target_state: chex.ArrayTree
    queue: states.Queue | None


def make_model(config, axis_name=None):
    """The encoder, its heads, and SimSiam's projector before them."""
    model, shared = config.model, dict(dtype=jnp.dtype(config.model.dtype))
    base = images.make_model(model, axis_name)
    widths, projector = tuple(model.projection), None
    if config.loss.host == "simsiam":
        names = dict(batch_norm=True, last_batch_norm=True, axis_name=axis_name)
        projector = networks.Mlp((widths[0], widths[-1]), **names, **shared)
    names = ("heads", "adaptive", "score", "score_width", "lower", "upper")
    fields = {name: model[name] for name in names}
    temperature = config.loss.temperature
    return Heads(
        base.encoder, projector, widths, **fields, temperature=temperature, **shared
    )


def make_optimizer(config):
    """With warm-up and cosine decay."""
    return training.make_optimizer(**config.optim, num_steps=config.train.num_steps)


def init(config):
    """The state at step 0."""
    fields = images.init_fields(config, make_model(config), make_optimizer(config))
    if config.loss.host != "moco":
        return State(**fields, target=None, target_state=None, queue=None)
    rng = jax.random.fold_in(jax.random.key(config.seed), 1)
    dim = config.model.heads * config.model.projection[-1]
    queue = states.queue_init(rng, config.loss.queue_size, dim)
    target, target_state = jax.tree.map(
        jnp.copy, (fields["params"], fields["model_state"])
    )
    return State(**fields, target=target, target_state=target_state, queue=queue)


def make_views(config):
    """Random views of the augmentations that are in use."""
    settings = config.data.augment.to_dict()
    letters = dict(a="crop", b="blur", c="gray", d="jitter", e="flip")
    for letter, name in letters.items():
        if letter not in config.augmentations:
            settings[name] = 0.0 if name in ("gray", "flip") else None
    augment = make_augment(**settings)
    return augment, augment


def make_step(config, axis_name=None):
    """`step(state, batch) -> (state, metrics)`; batch: image [n, h, w, c] uint8."""
    model, tx = make_model(config, axis_name), make_optimizer(config)
    augments, loss = make_views(config), config.loss
    options = dict(beta=loss.beta, feature_dim=config.model.projection[-1])

    def embed(params, model_state, x):
        return training.apply_model(model, params, model_state, x)

    def temperatures(params, a, b):
        variables = {"params": params}
        return model.apply(variables, a, b, method="temperatures")

    def against(params, z, candidates, positive, where):
        """Rows [n, c, d] against candidates [m, c, d]: losses [n], what is logged."""
        cosines = jax.vmap(similarity.dot, (1, 1))(z, candidates)
        t = temperatures(params, z, candidates)

        def one_head(cosines, t):
            own = [numerics.at_columns(x, positive) for x in (cosines, t)]
            kinds = dict(where=where, aggregation=loss.aggregation, reduce_fn=None)
            return amcl.amcl_info_nce(*own, cosines, t, **kinds, **options), own

        each, (cosine, t) = jax.vmap(one_head)(cosines, t)
        return jnp.sum(each, axis=0), (jnp.mean(cosine), jnp.mean(t))

    def simclr(params, z):
        """All views of all devices; oneself and the positive are no negatives."""
        a, b = jnp.split(z, 2)
        everyone = jnp.concatenate(parallel.all_gather((a, b), axis_name))
        total, rows = len(everyone) // 2, parallel.global_rows(len(a), axis_name)
        own = jnp.concatenate([rows, rows + total])[:, None]
        columns = jnp.arange(2 * total)[None]
        where = columns % total != own % total
        positive = (own[:, 0] + total) % (2 * total)
        return against(params, z, everyone, positive, where)

    def moco(params, z, keys, queue):
        """First views against their keys and the queue, the negatives."""
        past = similarity.l2_normalize(queue.keys.reshape(-1, *z.shape[1:]))
        candidates, rows = jnp.concatenate([keys, past]), jnp.arange(len(z))
        columns = jnp.arange(len(candidates))[None]
        where = jnp.broadcast_to(columns >= len(z), (len(z), len(candidates)))
        return against(params, z, candidates, rows, where)

    def simsiam(params, z, targets):
        """Both directions; the targets of a view are shared by the heads."""
        (a, b), (to_a, to_b) = jnp.split(z, 2), jnp.split(targets, 2)
        losses, used = 0, []
        for x, y, target in ((a, b, to_b), (b, a, to_a)):
            # The temperature of row i and its own other view.
            t = jnp.diagonal(temperatures(params, x, y), axis1=1, axis2=2)

            def one_head(x, t, target=target):
                return amcl.amcl_simsiam(x, target, t, reduce_fn=None, **options)

            losses += jnp.sum(jax.vmap(one_head, (1, 0))(x, t), axis=0)
            used.append(jnp.mean(t))
        cosine = jnp.mean(jnp.sum(a * similarity.l2_normalize(to_b)[:, None], axis=-1))
        return losses, (cosine, (used[0] + used[1]) / 2)

    def step(s, batch):
        a, b = images.two_views(augments, batch["image"], s.rng, s.step, axis_name)
        carried, keys = {}, None
        if loss.host == "moco":
            target = states.ema_update(s.target, s.params, decay=loss.decay)
            (_, keys), target_state = embed(target, s.target_state, b)
            every = parallel.all_gather(keys.reshape(len(keys), -1), axis_name)
            queue = states.queue_push(s.queue, every)
            carried = dict(target=target, target_state=target_state, queue=queue)

        def loss_fn(params):
            x = a if loss.host == "moco" else jnp.concatenate([a, b])
            (targets, z), model_state = embed(params, s.model_state, x)
            if loss.host == "moco":
                each, logged = moco(params, z, keys, s.queue)
            elif loss.host == "simclr":
                each, logged = simclr(params, z)
            else:
                each, logged = simsiam(params, z, targets)
            return each, (model_state, logged)

        (value, (model_state, logged)), grads = parallel.value_and_grad(
            loss_fn, axis_name, has_aux=True
        )(s.params)
        s = training.apply_gradients(s, grads, tx)
        metrics = dict(zip(("positive_cosine", "temperature"), logged, strict=True))
        metrics |= {"loss": value, "grad_norm": training.global_norm(grads)}
        return s.replace(model_state=model_state, **carried), metrics

    return step


def batches(config, start_step):
    """Shuffled images, with labels that the objective ignores."""
    return images.batches(config.data, seed=config.seed, start_step=start_step)


def encode(config, state):
    """The frozen encoder without its heads: images in [0, 1] to features."""
    return images.make_encoder(make_model(config), state.params, state.model_state)


def evaluate(config, trained):
    """Test accuracy (%) of linear probe and kNN on learned features and baselines."""
    return images.evaluate(config, trained, init, encode)


def methods(config):
    """{host_method_number of augmentations: changes} of all that are compared.

    Hosts alone and with AMCL at every strength, the ablations at the last one.
    """
    out, last = {}, config.compared.strengths[-1]
    for host in config.compared.hosts:
        for letters in config.compared.strengths:
            for name in config.compared.methods:
                if letters != last and name not in ("plain", "amcl"):
                    continue
                if host == "simsiam" and name == "amcl_sum":
                    continue  # there are no negatives
                own = {"loss.host": host, "augmentations": letters}
                out[f"{host}_{name}_{len(letters)}"] = own | METHODS[name]
    return out


def run(config, workdir):
    """Trains hosts with and without AMCL at each strength; evaluates; reports."""
    shared = (config, workdir, init, make_step, batches, encode)
    trained = images.train_each(methods(config), *shared)
    results = evaluate(config, trained)
    report.write(workdir, __doc__, config, results, trained, make_model, make_views)
    return results
