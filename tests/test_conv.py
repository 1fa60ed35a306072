"""Convolution against the compiler's own, on a CPU with oneDNN and without, in every mode of differentiation."""

import ctypes
import os
import pathlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from jaxvision.nn import (
    conv2d,
    conv_cpu,
    conv_transpose2d,
    onednn_gradients,
    onednn_library,
    onednn_trial,
    python_ffi,
)
from jaxvision.nn.window import Window, compiler_input_gradient, compiler_weight_gradient


def normal(seed, *shape):
    # By NumPy: jax.random would be compiled for every shape, which took two thirds of these tests' time.
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def close(ours, theirs, rtol=1e-5):
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    ours, theirs = np.asarray(ours, np.float32), np.asarray(theirs, np.float32)
    assert np.isfinite(ours).all()
    assert np.linalg.norm(ours - theirs) <= rtol * np.linalg.norm(theirs) + 1e-6


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


GRADIENTS = {
    "weight": (conv_cpu.WEIGHT_GRADIENT, compiler_weight_gradient),
    "input": (conv_cpu.INPUT_GRADIENT, compiler_input_gradient),
}


@pytest.mark.parametrize(
    ("gradient", "name", "carrier"),
    [
        ("weight", "onednn", "package"),
        ("weight", "onednn rows", "jaxlib"),
        ("input", "onednn strided", "package"),
        ("input", "onednn", "jaxlib"),
    ],
)
def test_gradients_by_onednn_equal_the_compilers(gradient, name, carrier):
    if not onednn_trial.available(carrier, "float32"):
        pytest.skip("the extra onednn is not installed, or oneDNN cannot be used here")
    table, compiler = GRADIENTS[gradient]
    candidate, checked = table[name], set()

    # Hypothesis draws constants it finds in our code, so how many draws a kernel cannot take changes with any of it.
    @settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.filter_too_much])
    @given(convolutions(), st.sampled_from(["float32", "bfloat16"]))
    def check(case, dtype):
        _, height, width, channels = case["shape"]
        *kernel, _, features = case["kernel"]
        padding = case["padding"] if not isinstance(case["padding"], str) else ((1, 0), (0, 1))
        window = Window((height, width), tuple(kernel), case["strides"], padding, case["dilation"], case["groups"])
        assume(min(map(min, padding)) >= 0 and min(window.out_size) > 0)
        assume(candidate.can(window, jnp.dtype(dtype), channels))
        shape = case["shape"] if gradient == "weight" else (2, *window.out_size, features)
        other = (2, *window.out_size, features) if gradient == "weight" else case["kernel"]
        operands = normal(0, *shape).astype(dtype), normal(1, *other).astype(dtype)
        found = jax.jit(lambda *both: candidate.compute(*both, window))(*operands)
        assert found.dtype == dtype
        expected = compiler(*(each.astype(jnp.float32) for each in operands), window)
        close(found.astype(jnp.float32), expected, {4: 1e-5, 2: 2e-2}[found.itemsize])
        checked.add((channels, features))

    check()
    assert len(checked) > 2


@pytest.mark.parametrize(("strides", "is_free"), [((1, 1), False), ((2, 2), True), ((3, 1), True)])
@pytest.mark.usefixtures("package")
def test_gradients_of_many_channels(strides, is_free, monkeypatch):
    """So many that oneDNN brings pictures into an order of its own first, where there are strides."""
    window = Window((11, 14), (3, 2), strides, ((1, 0), (0, 2)), (1, 1), 1)
    x, kernel = normal(0, 3, 11, 14, 64), normal(1, 3, 2, 64, 70)
    cotangent = normal(2, 3, *window.out_size, 70)
    free, asked = onednn_gradients.free, []
    monkeypatch.setattr(onednn_gradients, "free", lambda *shape: (asked.append(tuple(shape[1])), free(*shape))[1])
    found = jax.jit(
        lambda: (
            onednn_gradients.weight_gradient(x, cotangent, window),
            onednn_gradients.input_gradient(cotangent, kernel, window),
        )
    )()
    close(found[0], compiler_weight_gradient(x, cotangent, window))
    close(found[1], compiler_input_gradient(cotangent, kernel, window))
    assert ((3, 64, 11, 14) in asked) == is_free


@pytest.mark.usefixtures("package")
def test_calls_share_memory_that_others_have_written_to():
    programs = []
    for size in (12, 40):
        window = Window((size, size), (3, 3), (2, 2), ((0, 1), (0, 1)), (1, 1), 1)
        operands = normal(0, 3, size, size, 64), normal(1, 3, size // 2, size // 2, 70)
        gradient = jax.jit(lambda *both, window=window: onednn_gradients.weight_gradient(*both, window))
        programs.append(partial(gradient, *operands))
        close(gradient(*operands), compiler_weight_gradient(*operands, window))
    before = [np.asarray(program()) for program in programs]
    assert onednn_library._idle
    for memory in onednn_library._idle:
        ctypes.memset(memory, 0xFF, len(memory))
    with ThreadPoolExecutor(4) as pool:
        after = [*pool.map(lambda turn: np.asarray(programs[turn % 2]()), range(12))]
    for turn, found in enumerate(after):
        np.testing.assert_array_equal(found, before[turn % 2])


@pytest.mark.usefixtures("package")
def test_strides_past_the_picture_in_bfloat16():
    """oneDNN adds up memory there that it never wrote, so it is not asked; nor would it see what others wrote."""
    window = Window((64, 1), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 1)
    assert conv_cpu.pick_weight_gradient(window, jnp.dtype("bfloat16"), 32, 10**6) != "onednn"
    assert conv_cpu.pick_weight_gradient(window, jnp.dtype("float32"), 32, 10**6) == "onednn"
    x, cotangent = (
        normal(n, 32, *size, 32).astype(jnp.bfloat16) for n, size in enumerate((window.size, window.out_size))
    )
    gradient = jax.jit(lambda: onednn_gradients.weight_gradient(x, cotangent, window))
    if not onednn_trial.available("package", "bfloat16"):
        pytest.skip("this processor's oneDNN has no bfloat16")
    gradient().block_until_ready()
    for memory in onednn_library._idle:
        ctypes.memset(memory, 0xFF, len(memory))
    expected = compiler_weight_gradient(x.astype(jnp.float32), cotangent.astype(jnp.float32), window)
    close(gradient().astype(jnp.float32), expected, 2e-2)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("channels", [1, 3, 64])
def test_one_tap_behind_a_stride(channels):
    """The shortcut of a residual block: the package's weight gradient is wrong here on some processors."""
    x, kernel, weight = normal(0, 16, 9, 8, channels), normal(1, 1, 1, channels, 128), normal(2, 16, 5, 4, 128)

    def loss(kernel, lowering):
        return jnp.sum(conv2d(x, kernel, strides=(2, 2), padding="SAME", lowering=lowering) * weight)

    assert weight.size >= onednn_gradients.LEAST
    ours, theirs = (jax.jit(jax.grad(partial(loss, lowering=name)))(kernel) for name in ("auto", "lax"))
    close(ours, theirs)


@pytest.mark.usefixtures("package")
def test_outside_of_programs_python_is_not_called(monkeypatch):
    """A signal's exception could come within the call there (see `python_ffi`)."""
    jax.clear_caches()
    monkeypatch.setattr(onednn_library.Call, "__call__", lambda *_: 1 / 0)
    x, kernel = normal(0, 8, 33, 33, 16), normal(1, 3, 3, 16, 16)

    def both(x, kernel):
        conv_transpose2d(x, kernel, strides=(2, 2))
        return jax.grad(lambda kernel: jnp.sum(conv2d(x, kernel) ** 2))(kernel)

    jax.block_until_ready(both(x, kernel))
    with pytest.raises(jax.errors.JaxRuntimeError, match="ZeroDivisionError"):
        jax.block_until_ready(jax.jit(both)(x, kernel))


@pytest.mark.usefixtures("package")
def test_a_step_takes_the_gradients_of_the_package():
    jax.clear_caches()
    x, kernel = normal(0, 8, 65, 65, 3), normal(1, 3, 3, 3, 5)
    gradients = jax.grad(lambda x, kernel: jnp.sum(conv2d(x, kernel, strides=(2, 2)) ** 2), (0, 1))
    lowered = jax.jit(gradients).lower(x, kernel).as_text()
    assert "jaxvision_onednn_weight_gradient" in lowered
    assert "jaxvision_onednn_input_gradient" in lowered


IN_FLIGHT = """
import sys
import jax, jax.numpy as jnp
from jaxvision.nn import conv2d

@jax.jit
def steps(x, kernel):
    gradient = jax.grad(lambda kernel: jnp.sum(conv2d(x, kernel) ** 2))
    return jax.lax.scan(lambda kernel, _: (kernel - 1e-12 * gradient(kernel), None), kernel, None, length=60)[0]

x, kernel = jnp.ones((16, 64, 64, 32)), jnp.ones((3, 3, 32, 32)) * 0.01
program = steps.lower(x, kernel).compile()
assert "jaxvision_onednn_weight_gradient" in program.as_text()
result = program(x, kernel)
assert not result.is_ready()
if sys.argv[1] == "gone":
    del result
sys.exit(3)
"""


@pytest.mark.parametrize("result", ["kept", "gone"])
@pytest.mark.usefixtures("package")
def test_a_process_ends_that_has_a_program_under_way(result):
    assert subprocess.run([sys.executable, "-c", IN_FLIGHT, result], timeout=60).returncode == 3


@pytest.mark.usefixtures("package")
def test_operations_are_done_in_other_threads_than_they_were_made_in():
    # Pads as wide as the kernel: oneDNN computes by products here, in memory that it would keep for each thread.
    window = Window((32, 32), (3, 3), (1, 1), ((3, 3), (3, 3)), (1, 1), 1)
    x, cotangent = normal(0, 8, 32, 32, 64), normal(1, 8, 36, 36, 64)
    program = jax.jit(lambda *both: onednn_gradients.weight_gradient(*both, window)).lower(x, cotangent).compile()
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(lambda: program(x, cotangent).block_until_ready()) for _ in range(8)]
        found = [future.result() for future in found]
    for one in found:
        close(one, compiler_weight_gradient(x, cotangent, window))


def test_a_python_function_that_fails_within_a_program_is_told():
    def answer(operands, results, config):
        raise ValueError(f"not for {config.decode()}")

    python_ffi.register("jaxvision_test_fails", answer)
    call = jax.ffi.ffi_call("jaxvision_test_fails", jax.ShapeDtypeStruct((2,), jnp.float32))
    with pytest.raises(jax.errors.JaxRuntimeError, match="jaxvision_test_fails: ValueError: not for you"):
        jax.block_until_ready(jax.jit(lambda x: call(x, config="you"))(jnp.zeros(2)))


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


def test_without_jit_as_with_it():
    x, kernel = normal(0, 2, 8, 8, 3), normal(1, 3, 3, 3, 5)
    gradients = jax.grad(lambda *operands: jnp.sum(jnp.tanh(conv2d(*operands, strides=(2, 1)))), (0, 1))
    with jax.disable_jit():
        found = gradients(x, kernel)
    for one, other in zip(found, jax.jit(gradients)(x, kernel), strict=True):
        close(one, other)


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

rng = np.random.default_rng(0)
x, kernel = (rng.normal(size=shape).astype(np.float32) for shape in [(4, 8, 8, 3), (3, 3, 3, 5)])
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
    onednn_trial._tried.cache_clear()
    onednn_trial.available.cache_clear()
    try:
        with pytest.warns(UserWarning, match="trial of oneDNN did not end"):
            assert not onednn_trial.available("jaxlib", "float32")
        assert not list(tmp_path.rglob("*.json"))  # to be tried again
    finally:
        onednn_trial._tried.cache_clear()
        onednn_trial.available.cache_clear()


def test_the_trial_finds_what_this_process_uses(tmp_path):
    # In a folder whose files hide the standard library's, and with warnings as errors.
    (tmp_path / "random.py").write_text("raise ImportError")
    package = pathlib.Path(onednn_trial.__file__).parents[2]
    environment = {**os.environ, "PYTHONWARNINGS": "error", "PYTHONPATH": str(package)}
    environment["JAXVISION_CACHE"] = str(tmp_path)
    found = [onednn_trial.available(library, "float32") for library in ("jaxlib", "package")]
    code = (
        "from jaxvision.nn.onednn_trial import available as a; print([a(x, 'float32') for x in ('jaxlib', 'package')])"
    )
    told = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", code],
        capture_output=True, text=True, check=True, env=environment, cwd=tmp_path, timeout=120,
    ).stdout  # fmt: skip
    assert told.strip() == str(found)
    assert bool(list(tmp_path.glob("onednn/*.json"))) == any(found)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"3 channels of x.*Received: x \(1, 8, 8, 3\), kernel \(3, 3, 4, 5\)"):
        conv2d(normal(0, 1, 8, 8, 3), normal(1, 3, 3, 4, 5))
    with pytest.raises(ValueError, match=r"SAME, VALID or numbers.*padding='valid'"):
        conv2d(normal(0, 1, 8, 8, 3), normal(1, 3, 3, 3, 5), padding="valid")
