"""Convolution against the compiler's own, on a CPU with oneDNN and without, in every mode of differentiation."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jaxvision.nn import conv2d, conv_transpose2d, onednn


def normal(seed, *shape, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(seed), shape).astype(dtype)


def close(ours, theirs, rtol=1e-5):
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    ours, theirs = np.asarray(ours, np.float32), np.asarray(theirs, np.float32)
    assert np.isfinite(ours).all()
    assert np.linalg.norm(ours - theirs) <= rtol * np.linalg.norm(theirs) + 1e-6


@pytest.fixture(params=["oneDNN", "without"])
def library(request, monkeypatch):
    """Both ways in which a CPU may compute. Compiled programs of one must not serve the other."""
    if request.param == "without":
        monkeypatch.setattr(onednn, "available", lambda dtype: False)
    elif not onednn.available("float32"):
        pytest.skip("this jaxlib or processor has no oneDNN")
    jax.clear_caches()
    yield request.param
    jax.clear_caches()


@st.composite
def convolutions(draw):
    pair = lambda least, most: draw(st.tuples(st.integers(least, most), st.integers(least, most)))  # noqa: E731
    channels, groups = draw(st.sampled_from([(1, 1), (3, 1), (32, 1), (6, 2), (5, 5), (1, 1)]))
    return {
        "shape": (2, *pair(5, 12), channels),
        "kernel": (*pair(1, 4), channels // groups, groups * draw(st.sampled_from([1, 4]))),
        "strides": pair(1, 3),
        "padding": draw(st.sampled_from(["VALID", "SAME", ((0, 2), (5, 1)), ((-1, 2), (0, 0))])),
        "dilation": draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (1, 3)])),
        "groups": groups,
    }


def test_conv_equals_lax_in_value_and_derivatives(library):
    @settings(max_examples=10, deadline=None, derandomize=True)
    @given(convolutions())
    def check(case):
        x, kernel = normal(0, *case.pop("shape")), normal(1, *case.pop("kernel"))
        extent = [(k - 1) * d + 2 for k, d in zip(kernel.shape, case["dilation"], strict=False)]
        assume(all(size >= least for size, least in zip(x.shape[1:3], extent, strict=True)))  # the kernel fits

        def outputs(x, kernel):
            found = []
            for lowering in ("auto", "lax"):

                def conv(x, kernel, lowering=lowering):
                    return conv2d(x, kernel, **case, lowering=lowering)

                out, pullback = jax.vjp(conv, x, kernel)
                _, tangent = jax.jvp(conv, (x, kernel), (x + 1.0, kernel - 1.0))
                found.append((out, *pullback(jnp.cos(out)), tangent))
            return found

        for ours, theirs in zip(*jax.jit(outputs)(x, kernel), strict=True):
            close(ours, theirs)

    check()


def test_second_derivatives_and_vmap(library):
    x, kernel = normal(0, 4, 8, 8, 3), normal(1, 3, 3, 3, 5)

    def outputs(lowering):
        def loss(kernel, x):
            return jnp.sum(jnp.tanh(conv2d(x, kernel, strides=(2, 1), lowering=lowering)))

        hessian_vector = jax.jvp(lambda k: jax.grad(loss)(k, x), (kernel,), (kernel * 0.5,))[1]
        mixed = jax.jacfwd(lambda s: jax.grad(loss, argnums=1)(kernel * s, x))(1.0)
        per_example = jax.vmap(lambda one: jax.grad(loss)(kernel, one[None]))(x)
        kernels = jnp.stack([kernel, kernel * 2.0, kernel - 1.0])
        per_kernel = jax.vmap(jax.value_and_grad(loss), in_axes=(0, None))(kernels, x)
        both = jax.vmap(loss, in_axes=(3, 1))(jnp.moveaxis(kernels, 0, 3), jnp.stack([x, x, -x], axis=1))
        nested = jax.vmap(jax.vmap(jax.checkpoint(jax.grad(loss)), in_axes=(None, 0)), in_axes=(0, None))(
            kernels, jnp.stack([x, -x])
        )
        many = jax.vmap(loss, in_axes=(0, None))(jnp.stack([kernel * n for n in range(20)]), x)
        return hessian_vector, mixed, per_example, *per_kernel, both, nested, many

    ours, theirs = jax.jit(lambda: (outputs("auto"), outputs("lax")))()
    for one, other in zip(ours, theirs, strict=True):
        close(one, other, rtol=1e-4)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("stride", "size"), [(1, 3), (2, 3), (3, 2)])
def test_transposed_conv_equals_lax(library, padding, stride, size):
    x, kernel = normal(0, 2, 5, 4, 6), normal(1, size, size, 3, 6)

    def ours(x, kernel):
        return conv_transpose2d(x, kernel, strides=(stride, stride), padding=padding)

    def theirs(x, kernel):
        return jax.lax.conv_transpose(
            x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), transpose_kernel=True
        )

    def outputs(conv):
        out, pullback = jax.vjp(conv, x, kernel)
        return out, *pullback(jnp.cos(out))

    for one, other in zip(*jax.jit(lambda: (outputs(ours), outputs(theirs)))(), strict=True):
        close(one, other)


def test_one_column_of_output_behind_a_stride(library):
    # oneDNN reads past the picture here; see conv_cpu.
    x, kernel = normal(0, 2, 12, 5, 1), normal(1, 3, 3, 1, 8)
    close(conv2d(x, kernel, strides=(1, 3)), conv2d(x, kernel, strides=(1, 3), lowering="lax"))


def test_bfloat16(library):
    x, kernel = normal(0, 2, 9, 9, 16), normal(1, 3, 3, 16, 8)

    def loss(x, kernel):
        return jnp.sum(conv2d(x, kernel, padding="SAME") ** 2)

    half = jax.grad(loss, argnums=(0, 1))(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
    for ours, theirs in zip(half, jax.grad(loss, argnums=(0, 1))(x, kernel), strict=True):
        assert ours.dtype == jnp.bfloat16
        close(ours.astype(jnp.float32), theirs, rtol=2e-2)


SHARDED = """
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxvision.nn import conv2d

x, kernel = (jax.random.normal(jax.random.key(0), shape) for shape in [(4, 8, 8, 3), (3, 3, 3, 5)])
split = jax.device_put(x, NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data")))
step = jax.jit(lambda x, k: (conv2d(x, k), jax.grad(lambda k: (conv2d(x, k) ** 2).sum())(k)))
(out, gradient), (expected, expected_gradient) = step(split, kernel), step(x, kernel)
assert out.sharding.shard_shape(out.shape) == (2, 6, 6, 5), out.sharding
np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-4)

# Where each device's part is written by hand, the gradient of what all share is summed over them.
from jax.sharding import AxisType
mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
def loss(k, x):
    return jax.lax.psum((conv2d(x, k) ** 2).sum(), "data")
spec = PartitionSpec
by_hand = jax.shard_map(jax.grad(loss), mesh=mesh, in_specs=(spec(), spec("data")), out_specs=spec())(kernel, x)
np.testing.assert_allclose(by_hand, expected_gradient, rtol=1e-4, atol=1e-4)

explicit = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Explicit,))
with jax.set_mesh(explicit):
    placed = jax.device_put(x, NamedSharding(explicit, spec("data")))
    out = jax.jit(conv2d)(placed, kernel)
    assert jax.typeof(out).sharding.spec[0] == "data", jax.typeof(out)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
"""


def test_sharded_pictures_stay_sharded():
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", SHARDED], check=True, env=environment, timeout=120)


def test_each_platform_gets_its_own_lowering(library):
    traced = jax.jit(lambda x, kernel: conv2d(x, kernel)).trace(normal(0, 2, 8, 8, 3), normal(1, 3, 3, 3, 5))
    on_gpu = traced.lower(lowering_platforms=("cuda",)).as_text()
    on_cpu = traced.lower(lowering_platforms=("cpu",)).as_text()
    assert "stablehlo.convolution" in on_gpu
    assert "onednn" not in on_gpu
    assert ("__onednn$convolution" in on_cpu) == (library == "oneDNN")


def test_a_library_that_fails_its_trial_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXVISION_CACHE", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "false")
    onednn._tried.cache_clear()
    onednn.available.cache_clear()
    try:
        with pytest.warns(UserWarning, match="trial of oneDNN did not end"):
            assert not onednn.available("float32")
        assert not list(tmp_path.rglob("*.json"))  # to be tried again
    finally:
        onednn._tried.cache_clear()
        onednn.available.cache_clear()


def test_the_trial_finds_what_this_process_uses(tmp_path):
    # In a folder whose files hide the standard library's, and with warnings as errors.
    (tmp_path / "random.py").write_text("raise ImportError")
    package = pathlib.Path(onednn.__file__).parents[2]
    environment = {**os.environ, "PYTHONWARNINGS": "error", "PYTHONPATH": str(package)}
    environment["JAXVISION_CACHE"] = str(tmp_path)
    code = "from jaxvision.nn import onednn; print(onednn.available('float32'))"
    told = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", code],
        capture_output=True, text=True, check=True, env=environment, cwd=tmp_path, timeout=120,
    ).stdout  # fmt: skip
    assert told.strip() == str(onednn.available("float32"))
    assert bool(list(tmp_path.glob("onednn/*.json"))) == onednn.available("float32")


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"3 channels of x.*Received: x \(1, 8, 8, 3\), kernel \(3, 3, 4, 5\)"):
        conv2d(normal(0, 1, 8, 8, 3), normal(1, 3, 3, 4, 5))
    with pytest.raises(ValueError, match=r"SAME, VALID or numbers.*padding='valid'"):
        conv2d(normal(0, 1, 8, 8, 3), normal(1, 3, 3, 3, 5), padding="valid")
