"""Wavelet scattering: laws and sizes; its values are held against kymatio's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import models
from contrastive_jax.models import scattering

SIZES = dict(scales=2, angles=3)


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


@jax.jit
def scatter(x):
    return models.scattering_2d(x, **SIZES)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(
    ("scales", "angles", "shape"),
    [(1, 1, (2, 2)), (3, 2, (8, 19)), (2, 4, (12, 20)), (4, 3, (33, 16))],
)
def test_shapes_and_paths(scales, angles, shape, order):
    sizes = dict(scales=scales, angles=angles, max_order=order)
    f = functools.partial(models.scattering_2d, **sizes)
    out = jax.eval_shape(f, jax.ShapeDtypeStruct((5, 3, *shape), jnp.float32))
    second = angles**2 * scales * (scales - 1) // 2
    paths = 1 + angles * scales + (second if order == 2 else 0)
    step = 2**scales
    assert out.shape == (5, 3, paths, shape[0] // step, shape[1] // step)
    listed = models.scattering_paths(**sizes)
    assert len(set(listed)) == len(listed) == paths
    assert all(list(p.scales) == sorted(set(p.scales)) for p in listed)


def test_leading_axes_and_vmap_are_the_same():
    x = normal(2, 3, 9, 13)
    want = scatter(x)
    one = jax.jit(jax.vmap(jax.vmap(scatter)))(x)
    np.testing.assert_allclose(one, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scatter(x[1]), want[1], rtol=1e-5, atol=1e-6)
    # In chunks, the last one smaller.
    parts = models.scattering_2d(x, **SIZES, chunk=4)
    np.testing.assert_allclose(parts, want, rtol=1e-5, atol=1e-6)


def test_a_constant_image_has_order_zero_only_and_finite_gradients():
    """The low pass has the sum pi / 3.1415; the gradient of a modulus of 0 is 0."""
    for value in (0.0, 2.0):
        x = jnp.full((9, 13), value)
        s, pull = jax.vjp(scatter, x)
        np.testing.assert_allclose(s[0], value * np.pi / 3.1415, rtol=1e-4)
        np.testing.assert_allclose(s[1:], 0, atol=1e-5)
        (grad,) = pull(jnp.ones_like(s))
        assert np.isfinite(grad).all() and grad.max() > 0


def test_brightness_scales_and_a_sign_leaves_orders_above_zero():
    x = normal(9, 13)
    s = scatter(x)
    np.testing.assert_allclose(scatter(3 * x), 3 * s, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scatter(-x)[1:], s[1:], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scatter(-x)[0], -s[0], rtol=1e-4, atol=1e-5)


def test_the_wavelet_of_a_wave_answers_most():
    """Of a plane wave with a wavelet's frequency and angle."""
    angles = 8
    y, x = np.mgrid[:32, :32]
    paths = models.scattering_paths(scales=2, angles=angles, max_order=1)
    f = jax.jit(
        lambda im: models.scattering_2d(im, scales=2, angles=angles, max_order=1)
    )
    for j, a in ((0, 1), (1, 6)):
        theta, xi = (int(angles / 2 - 1) - a) * np.pi / angles, 3 * np.pi / 4 / 2**j
        wave = np.cos(xi * (y * np.cos(theta) + x * np.sin(theta)))
        energy = np.asarray(f(jnp.asarray(wave, jnp.float32))).mean(axis=(1, 2))
        best = paths[1 + int(np.argmax(energy[1:]))]
        assert best == ((j,), (a,))


def test_low_pass_is_the_convolution_with_phi():
    """The two matrices, against a product in Fourier space in float64."""
    shape, scales = (24, 40), 3
    u = np.random.default_rng(1).normal(size=shape)
    bank = models.morlet_filter_bank(shape, scales, 2)
    for r, (a, b) in enumerate(scattering.low_pass(shape, scales, 2)):
        step = 2 ** (scales - r)
        small = u[: shape[0] // 2**r, : shape[1] // 2**r]
        full = np.fft.ifft2(np.fft.fft2(small) * bank.phi[r]).real
        want = full[step:-step:step, step:-step:step]
        np.testing.assert_allclose(a @ small @ b.T, want, rtol=1e-9, atol=1e-12)


def test_wavelets_have_mean_zero():
    bank = models.morlet_filter_bank((16, 24), 2, 5)
    assert [len(psi) for psi in bank.psi] == [1, 1]
    for psi in bank.psi:
        np.testing.assert_allclose(psi[0][:, 0, 0], 0, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "shape", "message"),
    [
        (dict(scales=0), (8, 8), r"^scales: expected an integer of at least 1, got 0"),
        (dict(angles=-1), (8, 8), r"^angles: expected an integer .*, got -1"),
        (dict(max_order=3), (8, 8), r"^max_order: expected 1 or 2, got 3"),
        (dict(chunk=-1), (8, 8), r"^chunk: expected at least 0, got -1"),
        ({}, (8, 3), r"^images: expected .* sides of at least 2\^2, got shape \[8, 3"),
    ],
)
def test_wrong_arguments(changes, shape, message):
    with pytest.raises(ValueError, match=message):
        models.scattering_2d(jnp.zeros(shape), **SIZES | changes)


def test_a_bank_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"^shape: expected multiples of 2\^2, got"):
        models.morlet_filter_bank((8, 10), 2, 4)
