"""Random views of images, on device: functions of one key and one image.

Images are [height, width, channels] of floating point in [0, 1]; integers raise
TypeError (uint8 images are divided by 255 first). Every function is pure and meant to
be vmapped over keys and images; `make_augment` chains them in SimCLR's order. Color
operations come from dm_pix; on images with one channel those that need color
(saturation, hue, grayscale) change nothing and are left out.

Standardize after augmenting: `color_jitter` and `random_solarize` are defined in [0, 1]
only and raise ValueError for other values where they can be seen (not under jit or
vmap). The others take any range. Nothing is cut off: results are kept in [0, 1], or in
the range of the image where that is wider.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import dm_pix
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

Image = Float[Array, "h w c"]


def check_image(image: Array, *, unit: bool = False) -> None:
    """Checks that an image is of floating point, with `unit` also that it is in [0, 1].

    Raises:
      TypeError: another dtype.
      ValueError: values outside of [0, 1], if they are not traced.
    """
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise TypeError(
            f"image: expected floating point in [0, 1], got {image.dtype}; divide "
            "uint8 images by 255"
        )
    if unit and not isinstance(image, jax.core.Tracer):
        low, high = np.asarray(image).min(), np.asarray(image).max()
        if not (low >= -1e-3 and high <= 1 + 1e-3):  # rounding of what came before
            raise ValueError(
                f"image: expected values in [0, 1], got {low:.4g} to {high:.4g}; "
                "standardize after augmenting"
            )


def keep_range(changed: Array, image: Array) -> Array:
    """Values cut to [0, 1], or to the range of the image where that is wider."""
    low, high = jnp.minimum(jnp.min(image), 0), jnp.maximum(jnp.max(image), 1)
    return jnp.clip(changed, low, high)


# Tries of random_resized_crop before it falls back to a central crop.
CROP_ATTEMPTS = 10


def random_resized_crop(
    rng: Key[Array, ""],
    image: Float[Array, "h w c"],
    *,
    size: tuple[int, int] | None = None,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    method: str = "cubic",
) -> Float[Array, "h2 w2 c"]:
    """A random box of the image, resized.

    Area uniform in `scale` times the image's, aspect ratio log-uniform in `ratio`, in
    whole pixels; 10 tries to fit the image, then the largest central crop within the
    ratios.

    Args:
      rng: key of this image.
      image: the image.
      size: height and width of the result; those of the image when None.
      scale: smallest and largest area as a fraction of the image.
      ratio: smallest and largest width / height.
      method: interpolation, as in `jax.image.resize`; antialiased.

    References:
      Szegedy et al. 2014, arXiv:1409.4842, section 6; Chen et al. 2020,
      arXiv:2002.05709, appendix A.

    Deviations:
      SimCLR's TensorFlow operation draws the ratio uniformly and tries 100 times.
    """
    check_image(image)
    height, width, channels = image.shape
    area_rng, ratio_rng, place_rng = jax.random.split(rng, 3)
    tries = (CROP_ATTEMPTS,)
    area = jax.random.uniform(area_rng, tries, minval=scale[0], maxval=scale[1])
    area = area * height * width
    log_ratio = jax.random.uniform(
        ratio_rng, tries, minval=math.log(ratio[0]), maxval=math.log(ratio[1])
    )
    w = jnp.round(jnp.sqrt(area * jnp.exp(log_ratio)))
    h = jnp.round(jnp.sqrt(area / jnp.exp(log_ratio)))
    fits = (w >= 1) & (w <= width) & (h >= 1) & (h <= height)
    first = jnp.argmax(fits)
    top, left = jnp.floor(
        jax.random.uniform(place_rng, (2,))
        * jnp.stack([height - h[first] + 1, width - w[first] + 1])
    )
    central_w = min(width, round(height * ratio[1]))
    central_h = min(height, round(width / ratio[0]))
    box = jnp.stack([top, left, h[first], w[first]])
    central = jnp.array(
        [(height - central_h) // 2, (width - central_w) // 2, central_h, central_w],
        dtype=box.dtype,
    )
    top, left, h, w = jnp.where(jnp.any(fits), box, central)
    out_h, out_w = size or (height, width)
    zoom = jnp.stack([out_h / h, out_w / w])
    view = jax.image.scale_and_translate(
        image,
        (out_h, out_w, channels),
        (0, 1),
        zoom,
        -jnp.stack([top, left]) * zoom,
        method=method,
        antialias=True,
    )
    return keep_range(view, image)


def random_affine(
    rng: Key[Array, ""],
    image: Float[Array, "h w c"],
    *,
    degrees: float = 15.0,
    zoom: tuple[float, float] = (0.8, 1.2),
    shear: float = 0.0,
    shift: float = 0.1,
) -> Float[Array, "h w c"]:
    """The image turned, zoomed, sheared and shifted about its center, zeros outside.

    For small centered pictures such as digits, of which a random crop may leave out
    what tells them apart. All four are uniform.

    Args:
      rng: key of this image.
      image: the image.
      degrees: largest turn either way.
      zoom: smallest and largest enlargement, log-uniform, each axis on its own.
      shear: largest shear either way, as a slope.
      shift: largest shift along either axis, as a fraction of it.
    """
    check_image(image)
    turn_rng, zoom_rng, shear_rng, shift_rng = jax.random.split(rng, 4)
    angle = jnp.deg2rad(jax.random.uniform(turn_rng, minval=-degrees, maxval=degrees))
    low, high = math.log(zoom[0]), math.log(zoom[1])
    scale = jnp.exp(jax.random.uniform(zoom_rng, (2,), minval=low, maxval=high))
    slope = jax.random.uniform(shear_rng, minval=-shear, maxval=shear)
    sides = jnp.array(image.shape[:2], jnp.float32)
    moved = jax.random.uniform(shift_rng, (2,), minval=-shift, maxval=shift) * sides
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    # Where each pixel of the view comes from: turn, then shear, then shrink.
    turn = jnp.stack([jnp.stack([cos, -sin]), jnp.stack([sin, cos])])
    slant = jnp.eye(2).at[0, 1].set(slope)
    source = (slant @ turn) / scale[:, None]
    center = (sides - 1) / 2
    return affine_view(image, source, center + moved - source @ center)


def affine_view(
    image: Float[Array, "h w c"],
    matrix: Float[Array, "2 2"],
    offset: Float[Array, "2"],
) -> Float[Array, "h w c"]:
    """The image read at `matrix @ (row, column) + offset`, zeros outside.

    Bilinear, by four gathers from the flat image: under vmap on a CPU 60 times as fast
    as general interpolation in three dimensions, which would be half of a small step.
    """
    h, w, c = image.shape
    place = jnp.stack(jnp.meshgrid(jnp.arange(h), jnp.arange(w), indexing="ij"))
    row, column = jnp.einsum("ij,jhw->ihw", matrix, place) + offset[:, None, None]
    # One pixel of zeros all around; what lies further out reads there.
    row, column = jnp.clip(row, -1, h), jnp.clip(column, -1, w)
    top = jnp.clip(jnp.floor(row), -1, h - 1)
    left = jnp.clip(jnp.floor(column), -1, w - 1)
    down, right = (row - top)[..., None], (column - left)[..., None]
    flat = jnp.pad(image, ((1, 1), (1, 1), (0, 0))).reshape(-1, c)
    first = ((top + 1) * (w + 2) + left + 1).astype(jnp.int32)

    def pixel(index):
        return flat.at[index].get(mode="promise_in_bounds")

    upper = (1 - right) * pixel(first) + right * pixel(first + 1)
    below = first + w + 2
    lower = (1 - right) * pixel(below) + right * pixel(below + 1)
    return (1 - down) * upper + down * lower


def random_flip(
    rng: Key[Array, ""], image: Float[Array, "h w c"], *, p: float = 0.5
) -> Float[Array, "h w c"]:
    """The image, mirrored left to right with probability p."""
    check_image(image)
    return jnp.where(jax.random.bernoulli(rng, p), image[:, ::-1], image)


def color_jitter(
    rng: Key[Array, ""],
    image: Float[Array, "h w c"],
    *,
    p: float = 0.8,
    brightness: float = 0.8,
    contrast: float = 0.8,
    saturation: float = 0.8,
    hue: float = 0.2,
    brightness_kind: Literal["multiply", "add"] = "multiply",
) -> Float[Array, "h w c"]:
    """Brightness, contrast, saturation and hue changed in random order.

    Factors are uniform in [max(0, 1 - x), 1 + x]; hue turns by uniform [-hue, hue] of
    a full circle. The result is clipped to [0, 1] after each of the four.

    Args:
      rng: key of this image.
      image: the image.
      p: probability that the image is changed at all.
      brightness: strength x of the brightness factor, or with `brightness_kind` "add"
        of an offset uniform in [-x, x].
      contrast: strength x of the factor on the distance to each channel's mean.
      saturation: strength x of the factor on HSV saturation.
      hue: largest turn of the hue, in full circles.
      brightness_kind: "multiply" (SimCLR v2's code) or "add" (BYOL's code).

    References:
      Chen et al. 2020, arXiv:2002.05709, appendix A (strength s: 0.8 s, 0.8 s, 0.8 s,
      0.2 s); Grill et al. 2020, arXiv:2006.07733, appendix B (0.4, 0.4, 0.2, 0.1).
    """
    check_image(image, unit=True)
    apply_rng, order_rng, *rngs = jax.random.split(rng, 6)

    def factor(key, strength):
        low = max(0.0, 1 - strength)
        return jax.random.uniform(key, minval=low, maxval=1 + strength)

    def change_brightness(x):
        if brightness_kind == "add":
            delta = jax.random.uniform(rngs[0], minval=-brightness, maxval=brightness)
            return dm_pix.adjust_brightness(x, delta)
        return x * factor(rngs[0], brightness)

    def change_hue(x):
        turn = jax.random.uniform(rngs[3], minval=-hue, maxval=hue)
        return dm_pix.adjust_hue(x, turn)

    changes = [
        change_brightness,
        lambda x: dm_pix.adjust_contrast(x, factor(rngs[1], contrast)),
    ]
    if image.shape[-1] == 3:
        changes += [
            lambda x: dm_pix.adjust_saturation(x, factor(rngs[2], saturation)),
            change_hue,
        ]
    order = jax.random.permutation(order_rng, len(changes))
    changed = image
    for i in range(len(changes)):
        changed = keep_range(jax.lax.switch(order[i], changes, changed), image)
    return jnp.where(jax.random.bernoulli(apply_rng, p), changed, image)


def random_grayscale(
    rng: Key[Array, ""], image: Float[Array, "h w c"], *, p: float = 0.2
) -> Float[Array, "h w c"]:
    """The image without its color, with probability p."""
    check_image(image)
    if image.shape[-1] != 3:
        return image
    gray = dm_pix.rgb_to_grayscale(image, keep_dims=True)
    return jnp.where(jax.random.bernoulli(rng, p), gray, image)


def random_blur(
    rng: Key[Array, ""],
    image: Float[Array, "h w c"],
    *,
    p: float = 0.5,
    sigma: tuple[float, float] = (0.1, 2.0),
    kernel: float = 0.1,
) -> Float[Array, "h w c"]:
    """The image, smoothed by a Gaussian with probability p.

    Two banded matrix products, which stay one batched product under vmap; the image is
    continued by zeros.

    Args:
      rng: key of this image.
      image: the image.
      p: probability of smoothing.
      sigma: smallest and largest standard deviation in pixels, drawn uniformly.
      kernel: side of the kernel as a fraction of the image's height, at least 3
        pixels: the published 0.1 would smooth nothing below 20.

    References:
      Chen et al. 2020, arXiv:2002.05709, appendix A.
    """
    check_image(image)
    apply_rng, sigma_rng = jax.random.split(rng)
    width = jax.random.uniform(sigma_rng, minval=sigma[0], maxval=sigma[1])
    radius = max(1, int(image.shape[0] * kernel / 2))

    def gaussian(size):
        offset = jnp.abs(jnp.arange(size)[:, None] - jnp.arange(size)[None, :])
        taps = jnp.arange(-radius, radius + 1)
        total = jnp.sum(jnp.exp(-(taps**2) / (2 * width**2)))
        bell = jnp.exp(-(offset**2) / (2 * width**2)) / total
        return jnp.where(offset <= radius, bell, 0)

    h, w, _ = image.shape
    smooth = jnp.einsum("ih,hwc,jw->ijc", gaussian(h), image, gaussian(w))
    return jnp.where(jax.random.bernoulli(apply_rng, p), smooth, image)


def random_solarize(
    rng: Key[Array, ""],
    image: Float[Array, "h w c"],
    *,
    p: float = 0.2,
    threshold: float = 0.5,
) -> Float[Array, "h w c"]:
    """The image with values above the threshold inverted, with probability p.

    References:
      Grill et al. 2020, arXiv:2006.07733, appendix B.
    """
    check_image(image, unit=True)
    changed = dm_pix.solarize(image, threshold)
    return jnp.where(jax.random.bernoulli(rng, p), changed, image)


def make_augment(
    *,
    size: tuple[int, int] | None = None,
    crop: dict[str, Any] | None = None,
    affine: dict[str, Any] | None = None,
    flip: float = 0.5,
    jitter: dict[str, Any] | None = None,
    gray: float = 0.2,
    blur: dict[str, Any] | None = None,
    solarize: float = 0.0,
) -> Callable[[Key[Array, ""], Array], Array]:
    """Chains the operations: crop, affine, flip, jitter, grayscale, blur, solarize.

    Args:
      size: height and width of the views; those of the image when None.
      crop: arguments of `random_resized_crop`; no crop when None.
      affine: arguments of `random_affine`; none when None.
      flip: probability of mirroring.
      jitter: arguments of `color_jitter`; none when None.
      gray: probability of losing color.
      blur: arguments of `random_blur`; none when None.
      solarize: probability of solarizing.

    Returns:
      `augment(rng, image) -> view`, for one key and one image.
    """
    steps: list[Callable[[Any, Any], Any]] = []
    if crop is not None:
        steps.append(lambda r, x: random_resized_crop(r, x, size=size, **crop))
    if affine is not None:
        steps.append(lambda r, x: random_affine(r, x, **affine))
    if flip:
        steps.append(lambda r, x: random_flip(r, x, p=flip))
    if jitter is not None:
        steps.append(lambda r, x: color_jitter(r, x, **jitter))
    if gray:
        steps.append(lambda r, x: random_grayscale(r, x, p=gray))
    if blur is not None:
        steps.append(lambda r, x: random_blur(r, x, **blur))
    if solarize:
        steps.append(lambda r, x: random_solarize(r, x, p=solarize))

    def augment(rng, image):
        for i, step in enumerate(steps):
            image = step(jax.random.fold_in(rng, i), image)
        return image

    return augment
