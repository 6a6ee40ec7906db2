"""Two-dimensional wavelet scattering: a fixed, differentiable map of images.

Two layers of wavelet transform and modulus, each followed by a low pass: what is left
is stable under small deformations, and nothing of it is learned. `scattering_2d` gives
the coefficients of kymatio's Scattering2D for any image size, number of scales and
number of angles; `morlet_filter_bank` its filters, `scattering_paths` their order.

Wavelets are applied in Fourier space, all angles of a scale at once. The low pass is a
Gaussian, hence separable: with its subsampling it is a product with two small matrices.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from contrastive_jax import numerics

TWO_PI = 2 * 3.1415  # so in kymatio's norm of a Gabor filter


class FilterBank(NamedTuple):
    """Real Fourier transforms of the filters, in float64.

    Attributes:
      psi: wavelets; `psi[j][r]` is [angles, h / 2^r, w / 2^r], scale j at resolution r.
      phi: low passes; `phi[r]` is [h / 2^r, w / 2^r].
    """

    psi: tuple[tuple[np.ndarray, ...], ...]
    phi: tuple[np.ndarray, ...]


class Path(NamedTuple):
    """The wavelets that lead to a coefficient: scales and angles, of none, one or two.

    Attributes:
      scales: j of each wavelet, rising.
      angles: number of each wavelet's angle, see `morlet_filter_bank`.
    """

    scales: tuple[int, ...]
    angles: tuple[int, ...]


def gabor(
    shape: tuple[int, int], sigma: float, theta: float, xi: float, slant: float
) -> np.ndarray:
    """A Gaussian times a plane wave, periodic on a grid with its origin at [0, 0].

        g(u) = slant / (2 3.1415 sigma^2) sum_e exp(-u_e^T C u_e + i xi u_e . n)

    where u_e are u shifted by -2 to 2 periods along both axes, n = (cos theta, sin
    theta), and C = R diag(1, slant^2) R^T / (2 sigma^2) with the rotation R by theta.
    """
    h, w = shape
    periods = np.arange(-2, 3)[:, None]
    # One row per shifted copy of the grid.
    x = (np.arange(h) + h * periods)[:, None, :, None]
    y = (np.arange(w) + w * periods)[None, :, None, :]
    along = x * np.cos(theta) + y * np.sin(theta)
    across = y * np.cos(theta) - x * np.sin(theta)
    squared = (along**2 + (slant * across) ** 2) / (2 * sigma**2)
    total = np.exp(1j * xi * along - squared).sum(axis=(0, 1))
    return total * slant / (TWO_PI * sigma**2)


def morlet(
    shape: tuple[int, int], sigma: float, theta: float, xi: float, slant: float
) -> np.ndarray:
    """A Gabor filter less as much of its envelope as gives it mean 0."""
    wave, envelope = (gabor(shape, sigma, theta, f, slant) for f in (xi, 0.0))
    return wave - wave.sum() / envelope.sum() * envelope


def at_resolution(fourier: np.ndarray, resolution: int) -> np.ndarray:
    """A filter for images subsampled by 2^resolution, from its Fourier transform.

    Frequencies beyond those of the small image are dropped, the others folded.
    """
    step = 2**resolution
    kept = []
    for size in fourier.shape:
        start = size // (2 * step)
        k = np.arange(size)
        kept.append((k < start) | (k >= start + int(size * (1 - 1 / step))))
    fourier = fourier * np.outer(*kept)
    h, w = (size // step for size in fourier.shape)
    return fourier.reshape(step, h, step, w).sum(axis=(0, 2))


@functools.lru_cache(maxsize=16)
def morlet_filter_bank(shape: tuple[int, int], scales: int, angles: int) -> FilterBank:
    """Morlet wavelets of all scales and angles, and the low pass.

    Wavelet (j, l) has sigma 0.8 2^j, frequency (3 pi / 4) / 2^j, slant 4 / angles and
    the angle (int(angles / 2 - 1) - l) pi / angles; the low pass is a Gaussian of sigma
    0.8 2^(scales - 1).

    Args:
      shape: of the padded image, divisible by 2^scales.
      scales: J, at least 1; the largest wavelet is 2^(J - 1) times the smallest.
      angles: L, at least 1.

    References:
      kymatio 0.3.0, scattering2d/filter_bank.py; Bruna and Mallat 2013,
      arXiv:1203.1513, section 2.1.

    Deviations:
      float64 throughout; kymatio sums in complex64.
    """
    check_sizes(scales, angles)
    if any(size % 2**scales or size < 1 for size in shape):
        raise ValueError(f"shape: expected multiples of 2^{scales}, got {tuple(shape)}")
    psi = []
    for j in range(scales):
        waves = []
        for angle in range(angles):
            theta = (int(angles / 2 - 1) - angle) * np.pi / angles
            xi = 3 * np.pi / 4 / 2**j
            wave = morlet(shape, 0.8 * 2**j, theta, xi, 4 / angles)
            waves.append(np.fft.fft2(wave).real)
        resolutions = range(min(j, max(scales - 1, 1) - 1) + 1)
        psi.append(
            tuple(np.stack([at_resolution(f, r) for f in waves]) for r in resolutions)
        )
    low = np.fft.fft2(gabor(shape, 0.8 * 2 ** (scales - 1), 0.0, 0.0, 1.0)).real
    phi = tuple(at_resolution(low, r) for r in range(scales))
    return FilterBank(tuple(psi), phi)


@functools.lru_cache(maxsize=16)
def low_pass(
    shape: tuple[int, int], scales: int, angles: int
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """For each resolution r, the matrices a, b with S = a U b^T.

    They convolve U with the low pass, keep one pixel in 2^(scales - r) and drop the
    outermost of those, which lie in the padding.
    """
    pairs = []
    for r, phi in enumerate(morlet_filter_bank(shape, scales, angles).phi):
        step, sides = 2 ** (scales - r), []
        for factor in (phi[:, 0], phi[0]):  # phi = outer(phi[:, 0], phi[0]) / phi[0, 0]
            taps = np.fft.ifft(factor / np.sqrt(phi[0, 0])).real
            places = np.arange(step, len(taps) - step, step)
            sides.append(taps[places[:, None] - np.arange(len(taps))])
        pairs.append((sides[0], sides[1]))
    return tuple(pairs)


def check_sizes(scales: int, angles: int, max_order: int = 2, chunk: int = 0) -> None:
    """Checks the sizes of a scattering transform."""
    for name, value in (("scales", scales), ("angles", angles)):
        if not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name}: expected an integer of at least 1, got {value}")
    if chunk < 0:
        raise ValueError(f"chunk: expected at least 0, got {chunk}")
    if max_order not in (1, 2):
        raise ValueError(f"max_order: expected 1 or 2, got {max_order}")


def scattering_paths(*, scales: int, angles: int, max_order: int = 2) -> list[Path]:
    """The paths of `scattering_2d`, in the order of its coefficients.

    Examples:
      >>> paths = scattering_paths(scales=2, angles=1)
      >>> [path.scales for path in paths]
      [(), (0,), (1,), (0, 1)]
    """
    check_sizes(scales, angles, max_order)
    first = [Path((j,), (a,)) for j in range(scales) for a in range(angles)]
    second = [
        Path(one.scales + two.scales, one.angles + two.angles)
        for one in first
        for two in first
        if two.scales > one.scales
    ]
    return [Path((), ()), *first, *(second if max_order == 2 else [])]


def fold(
    fourier: Complex[Array, "... h w"], filters: Float[Array, "angles h w"], step: int
) -> Complex[Array, "... angles h2 w2"]:
    """Filters a spectrum and subsamples by `step` in space: its blocks' mean."""
    h, w = (size // step for size in filters.shape[1:])
    filters = filters.reshape((1,) * (fourier.ndim - 2) + filters.shape)
    blocks = [
        fourier[..., None, i : i + h, j : j + w] * filters[..., i : i + h, j : j + w]
        for i in range(0, h * step, h)
        for j in range(0, w * step, w)
    ]
    return sum(blocks[1:], blocks[0]) / step**2


def scattering_2d(
    images: Float[Array, "*batch h w"],
    *,
    scales: int,
    angles: int,
    max_order: int = 2,
    chunk: int = 0,
) -> Float[Array, "*batch paths h2 w2"]:
    """Scattering coefficients of orders 0 to `max_order` of every image (or channel).

        S0 = x * phi,  S1 = |x * psi1| * phi,  S2 = ||x * psi1| * psi2| * phi

    psi2 of larger scale than psi1; all subsampled by 2^scales. The image is continued
    by reflection without repeating its edge.

    Args:
      images: sides of at least 2^scales pixels; any leading axes.
      scales: J, at least 1.
      angles: L, at least 1.
      max_order: 1 or 2. Of order 2 there are 1 + L J + L^2 J (J - 1) / 2 paths.
      chunk: images that are transformed at a time; 0 for all. A few at a time stay in
        a processor's cache, which halves the time there, and need little memory.

    Returns:
      h2 = floor(h / 2^scales) and w2 likewise; paths as `scattering_paths` orders them.

    Raises:
      ValueError: a side below 2^scales, or a size out of range.

    References:
      Bruna and Mallat 2013, arXiv:1203.1513, eq. 9; kymatio 0.3.0, Scattering2D.

    Examples:
      >>> scattering_2d(jnp.zeros((3, 12, 20)), scales=2, angles=4).shape
      (3, 25, 3, 5)
    """
    check_sizes(scales, angles, max_order, chunk)
    images = numerics.at_least_f32(images, "images")
    if images.ndim < 2 or min(images.shape[-2:]) < 2**scales:
        raise ValueError(
            f"images: expected [..., h, w] with sides of at least 2^{scales}, "
            f"got shape {list(images.shape)}"
        )
    *batch, h, w = images.shape
    if chunk:
        sizes = dict(scales=scales, angles=angles, max_order=max_order)
        one = functools.partial(scattering_2d, **sizes)
        s = jax.lax.map(one, images.reshape(-1, h, w), batch_size=chunk)
        return s.reshape(*batch, *s.shape[1:])
    padded, padding = [], []
    for size in (h, w):
        full = ((size + 2**scales) // 2**scales + 1) * 2**scales
        padded.append(full)
        padding.append(((full - size) // 2, (full - size + 1) // 2))
    sizes = ((padded[0], padded[1]), scales, angles)
    bank, low = morlet_filter_bank(*sizes), low_pass(*sizes)

    def constant(x):
        return jnp.asarray(x, images.dtype)

    def wavelets(fourier, j, resolution):
        """|U * psi_j| for all angles, from the spectrum of U."""
        filters = constant(bank.psi[j][resolution])
        return numerics.safe_abs(
            jnp.fft.ifft2(fold(fourier, filters, 2 ** (j - resolution)))
        )

    def average(u, resolution):
        """The low pass of every map, with the axes of paths as one."""
        a, b = (constant(x) for x in low[resolution])
        part = jnp.einsum("...xy,vy->...xv", u, b, precision="highest")
        s = jnp.einsum("...xv,ux->...vu", part, a, precision="highest")
        s = jnp.swapaxes(s, -1, -2)
        return s.reshape(*batch, -1, *s.shape[-2:])

    x = jnp.pad(images, [(0, 0)] * len(batch) + padding, mode="reflect")
    spectrum = jnp.fft.fft2(x)
    first, second = [average(x, 0)], []
    for j in range(scales):
        u = wavelets(spectrum, j, 0)
        first.append(average(u, j))
        larger = range(j + 1, scales)
        if max_order == 1 or not larger:
            continue
        spectra = jnp.fft.fft2(u)
        maps = [average(wavelets(spectra, i, j), i) for i in larger]
        # [angle of psi1, scale and angle of psi2]
        maps = [m.reshape(*batch, angles, angles, *m.shape[-2:]) for m in maps]
        maps = jnp.concatenate(maps, axis=-3)
        second.append(maps.reshape(*batch, -1, *maps.shape[-2:]))
    return jnp.concatenate(first + second, axis=-3)
