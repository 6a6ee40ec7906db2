"""The report: accuracy, parameters, curves; wavelets and what they see of images."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from contrastive_jax import models, training
from contrastive_jax.report import Report, plots
from contrastive_jax.tasks import images
from contrastive_jax.training import metrics


def filters(scales: int, angles: int) -> Figure:
    """Real parts of the wavelets in space, and all moduli in frequency.

    Args:
      scales: a row of wavelets for each.
      angles: of which up to eight are drawn.
    """
    side = 2 ** (scales + 3)
    bank = models.morlet_filter_bank((side, side), scales, angles)
    shown = np.unique(np.linspace(0, angles - 1, min(angles, 8)).astype(int))
    columns = len(shown) + 1
    size = (1.1 * columns, 1.2 * scales + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(scales, columns, squeeze=False)
    for j, row in enumerate(grid):
        fourier = bank.psi[j][0]
        for axes, angle in zip(row, shown, strict=False):
            wave = np.fft.fftshift(np.fft.ifft2(fourier[angle]).real)
            top = np.abs(wave).max()
            axes.imshow(wave, cmap="RdBu_r", vmin=-top, vmax=top)
            axes.set_title(f"angle {angle}", fontsize=7)
        row[-1].imshow(np.fft.fftshift(np.abs(fourier).max(axis=0)), cmap="magma")
        row[-1].set_title("all, frequency", fontsize=7)
        row[0].set_ylabel(f"scale {j}", fontsize=8)
        for axes in row:
            axes.set_xticks([])
            axes.set_yticks([])
    return figure


def maps(image: np.ndarray, *, scales: int, angles: int, max_order: int) -> Figure:
    """Coefficients of images: a row of each, of order 0, 1 and (if there) 2.

    Args:
      image: [n, h, w, c] in [0, 1]; the first channel is shown.
      scales: of the scattering transform.
      angles: of the scattering transform.
      max_order: of the scattering transform.
    """
    sizes = dict(scales=scales, angles=angles, max_order=max_order)
    transform = jax.jit(functools.partial(models.scattering_2d, **sizes))
    s = np.asarray(transform(jnp.asarray(image[..., 0])))
    paths = models.scattering_paths(**sizes)
    half = angles // 2
    wanted = [((), ())]
    wanted += [((j,), (a,)) for j in range(scales) for a in (0, half)]
    if max_order == 2 and scales > 1:
        wanted += [((0, 1), (a, b)) for a in (0, half) for b in (0, half)]
    chosen = [paths.index(path) for path in dict.fromkeys(wanted)]
    columns = len(chosen) + 1
    size = (0.95 * columns, 1.0 * len(image) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(image), columns, squeeze=False)
    for i, row in enumerate(grid):
        row[0].imshow(image[i, ..., 0], cmap="gray")
        for axes, path in zip(row[1:], chosen, strict=True):
            axes.imshow(s[i, path], cmap="magma", vmin=0, vmax=s[:, path].max())
        for axes in row:
            axes.set_xticks([])
            axes.set_yticks([])
    grid[0][0].set_title("image", fontsize=7)
    for axes, path in zip(grid[0][1:], chosen, strict=True):
        steps = zip(paths[path].scales, paths[path].angles, strict=True)
        name = "\n".join(f"j={j}, l={a}" for j, a in steps) or "low pass"
        axes.set_title(name, fontsize=7)
    return figure


def sizes_and_scores(results: dict, names: list[str]) -> Figure:
    """Linear accuracy of methods over the parameters of their encoders."""
    points = {
        name: ([results[f"{name}/parameters"]], [results[f"{name}/linear"]])
        for name in names
    }
    return plots.lines(
        {"": points},
        xlabel="parameters of the encoder",
        ylabel="linear probe, test accuracy (%)",
        colors=plots.method_colors(names),
    )


def write(workdir, doc, config, results, trained, encode) -> pathlib.Path:
    """Draws report.html; arguments as those of `images.write_report`."""
    page = Report(f"ScatSimCLR on {config.data.name}", doc.partition("\n")[0])
    own, names = config.model.scattering, list(trained)
    sizes = dict(scales=own.scales, angles=own.angles)
    images.add_accuracies(page, results)
    page.section("Accuracy and parameters", "Encoders without their heads.")
    if images.class_names(config.data):
        page.figure(sizes_and_scores(results, names), "accuracy over parameters")
    rows = [[name, results[f"{name}/parameters"]] for name in names]
    page.table(["encoder", "parameters"], rows)
    page.section(
        "Wavelets", "Real part in space, and the largest modulus in frequency."
    )
    page.figure(filters(**sizes), "wavelets of every scale and some angles")
    test = images.encode_split(
        images.pixels, config.data, "test", limit=1000, keep=1000
    )
    first = [int(np.argmax(test.label == c)) for c in np.unique(test.label)[:4]]
    page.section(
        "Scattering maps",
        "Coefficients of test images, one brightness for a column. Of order 2 the "
        "first line of a title is the first wavelet.",
    )
    shown = np.asarray(images.to_unit(test.image[first]))
    page.figure(
        maps(shown, max_order=own.max_order, **sizes), "scattering coefficients"
    )
    place = pathlib.Path(workdir)
    images.add_training(page, {name: metrics.read(place / name) for name in names})
    images.add_features(page, config.data, encode(*trained[names[0]]))
    page.config(training.config_text(config))
    return page.write(workdir)
