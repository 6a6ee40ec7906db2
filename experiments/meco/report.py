"""The report of MECO: landscapes and descents, heat maps, histograms, samples."""

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax.report import images as pictures
from contrastive_jax.report import maps, plots
from contrastive_jax.training import metrics
from experiments.meco import data, measure, model

EXTENT = (-data.HALF_WIDTH, data.HALF_WIDTH) * 2
# Stochastic runs of the 1-D problem: mean of the data, width of the noise.
PROBLEMS = {"m=2 q=N(0,1)": (2.0, 1.0), "m=4 q=N(0,9)": (4.0, 3.0)}
LOSSES = {"mle": ("MLE", "-"), "nce": ("NCE", "--"), "ence": ("eNCE", "-.")}
NARROW = {"m=3 q=N(0,1)": (3.0, 1.0)}  # the noise does not cover the model
SGD = {
    "meco": ("meco", 0.05),
    "storm": ("storm", 0.05),
    "plug_in": ("plug-in", 0.05),
    "nce": ("nce", 0.05),
    "nce_lr1": ("nce", 1.0),
}


def gaussian_part(page, config):
    """The 1-D problem: descents on exact landscapes, SGD, and their pictures."""
    settings = config.gaussian
    found = measure.landscape(
        tuple(settings.means), measure.DESCENTS, settings.max_steps
    )
    results = {}
    for method, runs in found.items():
        for m, (steps, path) in runs.items():
            results[f"1-D {method}/steps m={m:g}"] = steps
            results[f"1-D {method}/error m={m:g}"] = float(abs(path[-1, 0] - m))
    page.section(
        "Landscapes of the 1-D problem",
        "Data N(m, 1), noise N(0, 1). Exact population losses less their minimum, "
        "along normalised models (c = theta^2 / 2). Where flat, descent stalls.",
    )
    page.figure(slices(settings.means), "loss over theta for MLE, NCE and eNCE")
    page.section(
        "Descent on them",
        "Distance to the optimum, from theta = 0 and c = 0, until it is below 0.05 or "
        "the steps are used up.",
    )
    page.figure(descents(found), "distance to the optimum over steps")
    m = settings.means[min(1, len(settings.means) - 1)]
    page.text(f"Paths over the landscapes of NCE and eNCE at m = {m:g}.")
    page.figure(paths(found, m), "descent paths in the plane of theta and c")
    curves, rows = {}, []
    for title, (mean, std) in {**PROBLEMS, **NARROW}.items():
        curves[title] = {}
        for label in settings.sgd:
            name, rate = SGD[label]
            errors, sizes = measure.mean_squared_error(
                jax.random.key(config.seed),
                settings.sgd_seeds,
                name,
                data_mean=mean,
                noise_std=std,
                learning_rate=rate,
                num_steps=settings.sgd_steps,
            )
            curves[title][label] = errors.mean(axis=0)
            last = float(errors[:, -1].mean())
            results[f"SGD {title}/{label}"] = last
            starved = 100 * float(np.mean(sizes < 2))
            rows.append([title, label, rate, last, float(np.median(sizes)), starved])
    page.section(
        "Stochastic gradients",
        "Mean squared error of theta over the seeds; 256 samples of data and of noise "
        "per step. Where the noise is narrower than the model needs (last panel), its "
        "effective sample size warns: below 2 the gradient rests on one sample.",
    )
    page.figure(errors_figure(curves), "squared error over steps")
    header = ["problem", "method", "rate", "squared error", "median ESS", "ESS < 2 (%)"]
    page.table(header, rows)
    return results


def styles(names):
    """Color and line of each method, the same in all panels."""
    colors = plots.method_colors(names)
    marks = plots.marks_of(colors)
    return {name: dict(color=x, linestyle=marks[name][1]) for name, x in colors.items()}


def slices(means):
    """Exact losses along normalised models."""
    figure, grid_of = plots.panels_of(len(means), 3.8, 2.6)
    for axes, m in zip(grid_of, means, strict=True):
        theta = np.linspace(-2, m + 4, 80)
        with jax.enable_x64(True):
            for name, (label, line) in LOSSES.items():

                def loss(t, name=name, m=m):
                    at = model.normalized(t)
                    return model.population_loss(name, at, data_mean=m)

                values = np.asarray(jax.vmap(loss)(jnp.asarray([*theta, m])))
                values = np.maximum(values[:-1] - values[-1], 1e-16)
                axes.plot(theta, values, line, label=label)
        axes.axvline(m, color="0.7", linewidth=0.8)
        axes.set_yscale("log")
        axes.set_xlabel("theta")
        axes.set_ylabel("loss less its minimum")
        axes.set_title(f"data mean {m:g}")
    plots.legend_below(figure)
    return figure


def descents(found):
    """Distance to the optimum over steps, one panel per data mean."""
    means, style = list(next(iter(found.values()))), styles(found)
    figure, grid_of = plots.panels_of(len(means), 3.8, 2.6)
    for axes, m in zip(grid_of, means, strict=True):
        for method, runs in found.items():
            error = np.abs(runs[m][1][:, 0] - m)
            axes.plot(
                np.arange(1, len(error) + 1), error, label=method, **style[method]
            )
        axes.axhline(0.05, color="0.7", linewidth=0.8, label="there: 0.05")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("step + 1")
        axes.set_ylabel("|theta - m|")
        axes.set_title(f"data mean {m:g}")
    plots.legend_below(figure)
    return figure


def paths(found, m):
    """Descent paths over contours of the NCE and eNCE losses."""
    figure, grid_of = plots.panels_of(2, 3.8, 3.4)
    style = styles(found)
    theta, c = np.meshgrid(
        np.linspace(-0.5, m + 1, 60), np.linspace(-1, m**2 / 2 + 3, 60)
    )
    for i, (name, label) in enumerate((("nce", "NCE"), ("ence", "eNCE"))):
        axes = grid_of[i]
        with jax.enable_x64(True):

            def loss(t, c, name=name):
                at = {"theta": t, "c": c}
                return model.population_loss(name, at, data_mean=m)

            values = jax.lax.map(
                lambda pair: loss(*pair),
                (jnp.asarray(theta.ravel()), jnp.asarray(c.ravel())),
            )
        values = np.log10(np.asarray(values).reshape(theta.shape))
        drawn = axes.contourf(theta, c, values, 20, cmap="Greys")
        figure.colorbar(drawn, ax=axes, label=f"log10 of the {label} loss")
        for method, runs in found.items():
            own = method.startswith(label) or method.startswith("MLE")
            if own:
                axes.plot(*runs[m][1].T, label=method, **style[method])
        axes.plot(m, m**2 / 2, "k*", markersize=9, label="optimum")
        axes.set_xlim(theta.min(), theta.max())
        axes.set_ylim(c.min(), c.max())
        axes.set_xlabel("theta")
        axes.set_ylabel("c")
    plots.legend_below(figure)
    return figure


def errors_figure(curves):
    """Squared errors over steps, one panel per problem."""
    figure, grid_of = plots.panels_of(len(curves), 3.8, 2.8)
    style = styles(label for lines in curves.values() for label in lines)
    for axes, (title, lines) in zip(grid_of, curves.items(), strict=True):
        for label, values in lines.items():
            axes.plot(
                np.arange(1, len(values) + 1), values, label=label, **style[label]
            )
        axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.set_ylabel("squared error of theta")
        axes.set_title(title)
    plots.legend_below(figure)
    return figure


def set_part(page, name, fitted, results, workdir):
    """Everything about one set: table, curves, heat maps or histograms and samples."""
    page.section(f"{name}: every method with the same budget")
    keys = [k.split("/")[-1] for k in results if k.startswith(f"{name}/noise/")]
    rows = [[m, *(results[f"{name}/{m}/{k}"] for k in keys)] for m in fitted]
    page.table(["method", *keys], rows)
    for method in fitted:
        lines = metrics.read(f"{workdir}/{name}/{method}")
        if not lines:
            continue
        drawn = ("loss", "log_u", "effective_sample_size")
        page.text(f"Training of {method}.")
        page.figure(plots.curves(lines, drawn), f"training curves of {method}")
        worst = max(line["starved"] for line in lines)
        if worst >= 100:
            page.text(
                f"Warning: {method} had an effective sample size below 2 for "
                f"{worst:.0f} steps in a row; its noise does not cover the model."
            )
    config = fitted["noise"][0]
    split = data.load(name, config.eval.held_out, config.data.data_dir)
    if not split.outside:
        x, _ = data.square_grid(config.eval.grid, data.HALF_WIDTH)
        panels = {}
        for method, (chosen, f, g) in fitted.items():
            log_z, _ = measure.log_normalizer(chosen, f, g)
            side = config.eval.grid
            panels[method] = np.exp(np.asarray(f(x)) - log_z).reshape(side, side)
        page.figure(
            maps.heat_maps(panels, EXTENT, points=split.test[:2000]),
            f"densities learned on {name} beside the data",
        )
        return
    sets = {"test": split.test, **split.outside}
    page.text("Score f(x) of test images and of images from elsewhere.")
    scores = {
        method: {
            key: np.asarray(f(data.to_points(jnp.asarray(x), name, None)))
            for key, x in sets.items()
        }
        for method, (_, f, _) in fitted.items()
    }
    page.figure(
        plots.histograms(scores, xlabel="f(x) (nats)"), "histograms of the score"
    )
    page.text("Test images; samples of the noise; Langevin chains started from them.")
    keys = jax.random.split(jax.random.key(2), config.eval.generated)[:12]
    shown = {
        "test": split.test[:12],
        "noise": data.to_image(data.make_noise(config).sample(keys)),
    }
    for method, (chosen, f, _) in fitted.items():
        shown[f"chains, {method}"] = data.to_image(measure.generate(chosen, f, 12)[0])
    page.figure(pictures.image_rows(shown), "samples of every method")
