"""Augmentations: probabilities, ranges and exact cases, image by image."""

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from contrastive_jax.data.augment import image as augment

PHOTO = jnp.asarray(np.random.default_rng(0).uniform(size=(16, 16, 3)), jnp.float32)
GRAY = PHOTO[..., :1]
RNG = jax.random.key(0)


def many(f, n=400, image=PHOTO):
    """The operation under n keys."""
    keys = jax.random.split(RNG, n)
    return np.asarray(jax.jit(jax.vmap(lambda key: f(key, image)))(keys))


def share_changed(views, image=PHOTO):
    different = np.abs(views - np.asarray(image)).max(axis=(1, 2, 3)) > 1e-6
    return different.mean()


@pytest.mark.parametrize(
    ("f", "p"),
    [
        (augment.random_flip, 0.5),
        (augment.color_jitter, 0.8),
        (augment.random_grayscale, 0.2),
        (augment.random_blur, 0.5),
        (augment.random_solarize, 0.2),
    ],
)
def test_applied_with_the_published_probability(f, p):
    views = many(
        lambda key, x: (
            f(key, x, p=p)
            if f is not augment.random_blur
            else f(key, x, p=p, kernel=0.3, sigma=(0.5, 2.0))
        )
    )
    assert abs(share_changed(views) - p) < 4 * np.sqrt(p * (1 - p) / 400)
    assert views.min() >= 0 and views.max() <= 1
    never = many(lambda key, x: f(key, x, p=0.0), n=8)
    assert share_changed(never) == 0


def test_flip_is_a_mirror():
    got = augment.random_flip(RNG, PHOTO, p=1.0)
    np.testing.assert_array_equal(got, PHOTO[:, ::-1])


def test_solarize_inverts_above_the_threshold():
    got = augment.random_solarize(RNG, PHOTO, p=1.0, threshold=0.5)
    np.testing.assert_allclose(got, np.where(PHOTO < 0.5, PHOTO, 1 - PHOTO), rtol=1e-6)


def test_grayscale_uses_luma_weights():
    got = augment.random_grayscale(RNG, PHOTO, p=1.0)
    luma = PHOTO @ jnp.array([0.2989, 0.587, 0.114])
    np.testing.assert_allclose(got, jnp.repeat(luma[..., None], 3, -1), rtol=1e-5)


def test_blur_equals_a_convolution():
    for sigma in (0.3, 1.5):
        got = augment.random_blur(
            RNG, PHOTO, p=1.0, sigma=(sigma, sigma + 1e-6), kernel=0.4
        )
        want = dm_pix.gaussian_blur(PHOTO, sigma, 2 * int(16 * 0.4 / 2) + 1)
        np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("side", [2, 8, 19])
def test_blur_smooths_small_images_with_three_taps(side):
    image = PHOTO[:2, :2] if side == 2 else jnp.resize(PHOTO, (side, side, 3))
    got = augment.random_blur(RNG, image, p=1.0, sigma=(1.0, 1.0 + 1e-6))
    taps = np.exp([-0.5, 0, -0.5]) / np.exp([-0.5, 0, -0.5]).sum()
    want = np.asarray(image, np.float64)
    for axis in (0, 1):
        want = ndimage.correlate1d(want, taps, axis, mode="constant")
    np.testing.assert_allclose(got, want, atol=1e-5)


OPERATIONS = [
    augment.random_resized_crop,
    augment.random_affine,
    augment.random_flip,
    augment.color_jitter,
    augment.random_grayscale,
    augment.random_blur,
    augment.random_solarize,
]


@pytest.mark.parametrize("f", OPERATIONS, ids=lambda f: f.__name__)
def test_integers_are_refused(f, without_type_hooks):
    image = jnp.full((8, 8, 3), 200, jnp.uint8)
    for run in (f, jax.vmap(f)):
        batch = (RNG, image) if run is f else (RNG[None], image[None])
        with pytest.raises(TypeError, match=r"image: expected floating.* got uint8"):
            run(*batch)
    chain = augment.make_augment(crop={}, flip=0.0, gray=0.0)
    with pytest.raises(TypeError, match="got uint8"):
        jax.eval_shape(chain, RNG, image)


def test_standardized_images_keep_their_values():
    """Crops of everything are the image; colors are refused where they can be seen."""
    image = (PHOTO - 0.5) / 0.25
    whole = dict(scale=(1.0, 1.0), ratio=(1.0, 1.0))
    got = jax.jit(lambda x: augment.random_resized_crop(RNG, x, **whole))(image)
    np.testing.assert_allclose(got, image, atol=1e-5)
    crops = many(augment.random_resized_crop, n=50, image=image)
    assert crops.min() < -1.5 and crops.max() > 1.5
    assert image.min() <= crops.min() and crops.max() <= image.max()
    for f in (augment.color_jitter, augment.random_solarize):
        with pytest.raises(
            ValueError, match=r"image: expected values in \[0, 1\], got"
        ):
            f(RNG, image)
    still = dict(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
    gray = image[..., :1]
    kept = jax.jit(lambda x: augment.color_jitter(RNG, x, p=1.0, **still))(gray)
    np.testing.assert_allclose(kept, gray, atol=1e-5)


def test_crop_of_everything_is_the_image():
    got = augment.random_resized_crop(RNG, PHOTO, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    np.testing.assert_allclose(got, PHOTO, atol=1e-5)


def test_crop_takes_a_box_of_the_image():
    """Areas, ratios and places, read off an image that holds its own coordinates."""
    side = 64
    y, x = jnp.meshgrid(jnp.arange(side), jnp.arange(side), indexing="ij")
    ramp = jnp.stack([y, x], -1).astype(jnp.float32) / side

    def crop(key, image):
        return augment.random_resized_crop(
            key, image, scale=(0.2, 0.8), ratio=(0.75, 4 / 3), method="linear"
        )

    views = many(crop, image=ramp, n=300)
    # Linear images stay linear: the slope tells the size of the box.
    middle = slice(16, 48)
    h = (views[:, 47, 32, 0] - views[:, 16, 32, 0]) / 31 * side * side
    w = (views[:, 32, 47, 1] - views[:, 32, 16, 1]) / 31 * side * side
    area, ratio = h * w / side**2, w / h
    assert 0.19 < area.min() < 0.25 and 0.72 < area.max() < 0.81
    assert abs(area.mean() - 0.5) < 0.04
    assert 0.72 < ratio.min() < 0.8 and 1.25 < ratio.max() < 1.38
    assert abs(np.log(ratio).mean()) < 0.04
    centers = views[:, middle, middle].mean(axis=(1, 2))
    assert centers.std() > 0.05


def test_crop_that_cannot_fit_falls_back_to_the_center():
    wide = jnp.tile(jnp.linspace(0, 1, 40)[None, :, None], (10, 1, 1))
    got = augment.random_resized_crop(
        RNG, wide, size=(8, 8), scale=(1.0, 1.0), ratio=(0.9, 1.1), method="linear"
    )
    assert abs(float(got.mean()) - 0.5) < 0.02


def test_jitter_ranges():
    flat = jnp.full((4, 4, 3), 0.4)
    views = many(
        lambda k, x: augment.color_jitter(
            k, x, p=1.0, brightness=0.5, contrast=0.0, saturation=0.0, hue=0.0
        ),
        image=flat,
    )
    factor = views[:, 0, 0, 0] / 0.4
    assert 0.5 <= factor.min() < 0.52 and 1.48 < factor.max() <= 1.5001
    added = many(
        lambda k, x: augment.color_jitter(
            k,
            x,
            p=1.0,
            brightness=0.3,
            contrast=0.0,
            saturation=0.0,
            hue=0.0,
            brightness_kind="add",
        ),
        image=flat,
    )
    offset = added[:, 0, 0, 0] - 0.4
    assert -0.301 <= offset.min() < -0.28 and 0.28 < offset.max() <= 0.301


def test_jitter_draws_all_orders():
    """Contrast 0 makes a flat image; what follows it decides between two results."""
    image = jnp.stack([jnp.zeros((4, 4, 1)), jnp.ones((4, 4, 1))]).reshape(8, 4, 1)
    views = many(
        lambda k, x: augment.color_jitter(
            k, x, p=1.0, brightness=1.0, contrast=0.9, saturation=0.0, hue=0.0
        ),
        image=image,
    )
    assert len(np.unique(views.max(axis=(1, 2, 3)).round(4))) > 100


def test_gray_images_have_no_color_to_lose():
    views = many(lambda k, x: augment.random_grayscale(k, x, p=1.0), image=GRAY, n=4)
    assert share_changed(views, GRAY) == 0
    assert augment.color_jitter(RNG, GRAY).shape == GRAY.shape


def test_affine_identity_turn_and_shift():
    still = dict(degrees=0.0, zoom=(1.0, 1.0), shear=0.0, shift=0.0)
    got = augment.random_affine(RNG, PHOTO, **still)
    np.testing.assert_allclose(got, PHOTO, atol=1e-5)
    dot = jnp.zeros((15, 15, 1)).at[7, 7].set(1)
    turned = many(
        lambda k, x: augment.random_affine(
            k, x, degrees=90.0, zoom=(1.0, 1.0), shift=0.0
        ),
        image=dot,
        n=20,
    )
    np.testing.assert_allclose(turned[:, 7, 7], 1, atol=1e-4)  # the center stays
    moved = many(
        lambda k, x: augment.random_affine(
            k, x, degrees=0.0, zoom=(1.0, 1.0), shift=0.2
        ),
        image=dot,
    )
    np.testing.assert_allclose(moved.sum(axis=(1, 2, 3)), 1, atol=1e-4)
    center = (moved[..., 0].sum(axis=2) * np.arange(15)).sum(axis=1) - 7
    assert -3.01 <= center.min() < -2.8 and 2.8 < center.max() <= 3.01


def test_affine_view_is_bilinear_with_zeros_outside():
    matrix, offset = np.array([[0.8, -0.5], [0.6, 1.3]]), np.array([2.3, -4.1])
    got = augment.affine_view(PHOTO, jnp.asarray(matrix), jnp.asarray(offset))
    places = np.moveaxis(np.indices((16, 16)), 0, -1) @ matrix.T + offset
    assert places.min() < -1 and places.max() > 16  # both sides are left
    want = [
        # "grid-constant": the image continues as zeros, also between two pixels.
        ndimage.map_coordinates(
            np.asarray(PHOTO[..., i], np.float64),
            np.moveaxis(places, -1, 0),
            order=1,
            mode="grid-constant",
        )
        for i in range(3)
    ]
    np.testing.assert_allclose(got, np.stack(want, axis=-1), atol=1e-5)


def test_chain_is_a_function_of_key_and_image():
    chain = augment.make_augment(
        size=(12, 10), crop={}, jitter={}, blur={}, solarize=0.2
    )
    views = many(chain, n=6)
    assert views.shape == (6, 12, 10, 3)
    assert views.min() >= 0 and views.max() <= 1
    np.testing.assert_array_equal(views, many(chain, n=6))
    assert len({v.tobytes() for v in views}) == 6
    plain = augment.make_augment(flip=0.0, gray=0.0)
    np.testing.assert_array_equal(plain(RNG, PHOTO), PHOTO)
