"""What augmentation does to a batch: how far, how often, from which key, and to pictures, masks and targets alike."""

import functools
import inspect
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import augment
from jaxvision.augment import affine, augment_batch, color, geometry, mixing, pipeline, resample
from jaxvision.config import Augment
from jaxvision.errors import ConfigError
from jaxvision.types import IGNORE, Batch

augmented = jax.jit(augment_batch, static_argnums=2, static_argnames="num_classes")
BOOK = Augment(flip="horizontal", rotation=0.1, zoom=0.2)


def noise(count: int = 8, size: tuple[int, int] = (20, 27)) -> Batch:
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (count, *size, 3), dtype=np.uint8)
    return Batch(images, rng.integers(0, 5, count, dtype=np.int32), np.ones(count, bool))


def maps(settings: Augment, seed: int = 0, count: int = 600) -> np.ndarray:
    """The maps (B, 2, 3) that a batch goes through, in (x, y): read off the middle of pictures of x and of y."""
    height, width = 41, 53
    y, x = np.mgrid[:height, :width].astype(np.float32)
    images = np.broadcast_to(np.stack([x, y], axis=-1), (count, height, width, 2))
    batch = Batch(images, np.zeros(count, np.int32), np.ones(count, bool))
    out = np.asarray(augmented(jax.random.key(seed), batch, settings, num_classes=2).inputs)
    cx, cy = width // 2, height // 2
    linear = [out[:, cy, cx + 1] - out[:, cy, cx], out[:, cy + 1, cx] - out[:, cy, cx]]
    return np.stack([*linear, out[:, cy, cx] - np.array([cx, cy], np.float32)], axis=-1)


def decompose(settings: Augment, **options: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mirrored?, degrees and zoom of each picture's map."""
    m = maps(settings, **options).astype(np.float64)
    determinant = m[:, 0, 0] * m[:, 1, 1] - m[:, 0, 1] * m[:, 1, 0]
    return determinant < 0, np.degrees(np.arctan2(m[:, 1, 0], m[:, 1, 1])), np.sqrt(np.abs(determinant))


def assert_fills(values: np.ndarray, low: float, high: float, slack: float = 1e-3) -> None:
    """Uniform over low..high: nothing outside, both ends reached, quarters equally full."""
    assert low - slack <= values.min() < low + 0.03 * (high - low)
    assert high - 0.03 * (high - low) < values.max() <= high + slack
    assert np.histogram(values, 4, (low, high))[0] == pytest.approx(len(values) / 4, rel=0.25)


def test_the_books_settings_reach_as_far_as_they_say():
    mirrored, degrees, zoom = decompose(BOOK)
    assert mirrored.mean() == pytest.approx(0.5, abs=0.07)
    assert_fills(degrees, -36, 36, slack=0.01)
    assert_fills(zoom, 0.8, 1.2)
    assert abs(np.corrcoef([mirrored, degrees, zoom]) - np.eye(3)).max() < 0.15


def test_a_change_switched_on_leaves_the_others_draws_alone():
    alone = decompose(Augment(rotation=0.1))[1]
    np.testing.assert_allclose(decompose(Augment(rotation=0.1, zoom=0.2, translation=0.05))[1], alone, atol=0.01)


def test_translation_shifts_by_shares_of_height_and_width():
    m = maps(Augment(translation=0.1))
    np.testing.assert_allclose(m[:, :, :2], np.broadcast_to(np.eye(2, dtype=np.float32), (600, 2, 2)), atol=1e-4)
    assert_fills(m[:, 0, 2], -5.3, 5.3)
    assert_fills(m[:, 1, 2], -4.1, 4.1)


@pytest.mark.parametrize("mode", ["horizontal", "vertical", "both"])
def test_flips_mirror_half_of_the_pictures_along_each_named_axis(mode):
    m = maps(Augment(flip=mode))
    across, along = m[:, 0, 0] < 0, m[:, 1, 1] < 0
    assert across.mean() == (pytest.approx(0.5, abs=0.07) if mode != "vertical" else 0)
    assert along.mean() == (pytest.approx(0.5, abs=0.07) if mode != "horizontal" else 0)
    if mode == "both":
        assert (across & along).mean() == pytest.approx(0.25, abs=0.07)


def test_a_crop_is_a_window_of_the_reflected_padding():
    batch, padding = noise(200, (9, 12)), 3
    out = np.asarray(augment.random_crop(jax.random.key(1), batch.inputs, padding=padding))
    padded = np.pad(batch.inputs, [(0, 0), (padding, padding), (padding, padding), (0, 0)], mode="symmetric")
    offsets = []
    for windows, picture in zip(padded, out, strict=True):
        found = [
            (i, j)
            for i in range(2 * padding + 1)
            for j in range(2 * padding + 1)
            if np.array_equal(windows[i : i + 9, j : j + 12], picture)
        ]
        assert len(found) == 1
        offsets += found
    assert {i for i, _ in offsets} == {j for _, j in offsets} == set(range(2 * padding + 1))


def test_brightness_and_contrast_reach_as_far_as_they_say():
    checks = np.indices((4, 4)).sum(0) % 2
    images = np.broadcast_to((100 + 50 * checks)[None, :, :, None], (600, 4, 4, 1)).astype(np.uint8)
    batch = Batch(images, np.zeros(600, np.int32), np.ones(600, bool))
    brighter = np.asarray(augmented(jax.random.key(0), batch, Augment(brightness=0.1), num_classes=2).inputs)
    assert_fills((brighter - images)[:, 0, 0, 0], -25.5, 25.5)
    assert np.ptp(brighter - images, axis=(1, 2, 3)).max() < 1e-3
    contrast = np.asarray(augmented(jax.random.key(0), batch, Augment(contrast=0.5), num_classes=2).inputs)
    assert_fills(np.ptp(contrast, axis=(1, 2, 3)), 25, 75)
    np.testing.assert_allclose(contrast.mean(axis=(1, 2, 3)), 125, atol=1e-3)
    bright = augment.random_brightness(jax.random.key(0), images, factor=1.0)
    assert bright.min() == 0
    assert bright.max() == 255


EVERYTHING = Augment("both", 0.1, 0.2, 0.1, 0.2, 0.2, 2, 0.4, 1.0)


@pytest.mark.parametrize("settings", [BOOK, EVERYTHING], ids=["book", "everything"])
def test_the_key_decides_everything_and_pictures_differ(settings):
    batch = noise()
    same = Batch(np.broadcast_to(batch.inputs[:1], batch.inputs.shape), batch.target, batch.valid)
    first, again, other = (augmented(jax.random.key(k), same, settings, num_classes=5) for k in (0, 0, 1))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.inputs, other.inputs)
    assert all(not np.allclose(first.inputs[0], picture, atol=1) for picture in first.inputs[1:])
    assert first.inputs.dtype == jnp.float32
    assert first.inputs.min() >= 0
    assert first.inputs.max() <= 255
    np.testing.assert_array_equal(first.valid, batch.valid)


def test_switched_off_the_batch_comes_back_as_it_is():
    batch = noise()
    assert augment_batch(jax.random.key(0), batch, Augment(), num_classes=5) is batch


@pytest.mark.parametrize("name", ["random_rotation", "random_zoom", "random_translation"])
def test_a_change_by_itself_moves_pixels_and_none_at_zero(name):
    images = noise().inputs
    changed = jax.jit(functools.partial(getattr(augment, name), factor=0.2))(jax.random.key(0), images)
    assert np.abs(changed - images.astype(np.float32)).mean() > 10
    unchanged = jax.jit(functools.partial(getattr(augment, name), factor=0.0))(jax.random.key(0), images)
    np.testing.assert_array_equal(unchanged, images.astype(np.float32))


def test_a_mask_moves_with_its_picture():
    rng = np.random.default_rng(5)
    mask = np.kron(rng.integers(0, 3, (16, 5, 7)), np.ones((1, 8, 8))).astype(np.int32)
    batch = Batch((100 * mask[..., None]).astype(np.uint8), mask, np.ones(16, bool))
    settings = Augment("both", 0.1, 0.2, 0.1, crop_padding=3)
    out = augmented(jax.random.key(0), batch, settings, num_classes=3)
    picture, moved = np.asarray(out.inputs[..., 0]), np.asarray(out.target)
    assert moved.dtype == np.int32
    assert set(np.unique(moved)) == {0, 1, 2}
    assert (moved != mask).mean() > 0.3
    # Between two regions the picture blends and the mask picks one; everywhere else they tell the same.
    np.testing.assert_array_less(np.abs(picture - 100 * moved), 151)
    assert (np.abs(picture - 100 * moved) < 0.1).mean() > 0.7
    flipped = augmented(jax.random.key(0), batch, Augment("both", crop_padding=3), num_classes=3)
    np.testing.assert_array_equal(flipped.inputs[..., 0], 100 * flipped.target)


@pytest.mark.parametrize("axis", [0, 1], ids=["rows", "columns"])
def test_a_mask_is_moved_to_the_pixel_as_its_picture_is(axis):
    """The picture's first channel and the mask both hold where a pixel came from: bilinear and nearest must round to
    the same, mirrored borders included."""
    count, height, width = 32, 41, 57
    place = np.broadcast_to(np.indices((height, width))[axis], (count, height, width)).astype(np.uint8)
    mask = place.copy()
    mask[:, 10:20, 30:40] = IGNORE
    batch = Batch(place[..., None], mask, np.ones(count, bool))
    settings = Augment("both", 0.1, 0.2, 0.1, crop_padding=3)
    out = augmented(jax.random.key(2), batch, settings, num_classes=60)
    came_from, moved = np.asarray(out.inputs[..., 0]), np.asarray(out.target)
    assert moved.dtype == np.uint8
    kept = moved != IGNORE
    assert np.abs(came_from - moved)[kept].max() < 0.51
    first, last = ((10, 19), (30, 39))[axis]
    assert came_from[~kept].min() > first - 0.51
    assert came_from[~kept].max() < last + 0.51
    assert (~kept).mean() > 0.02
    assert set(np.unique(moved)) <= set(np.unique(mask))
    # Brightness and contrast change the picture and leave the mask where it is.
    coloured = augmented(jax.random.key(2), batch, replace(settings, brightness=0.3, contrast=0.4), num_classes=60)
    np.testing.assert_array_equal(coloured.target, moved)
    assert np.abs(np.asarray(coloured.inputs[..., 0]) - came_from).mean() > 5


@pytest.mark.parametrize("settings", [Augment(mixup=0.4), Augment(cutmix=1.0), Augment(mixup=1.0, cutmix=1.0)])
def test_soft_targets_say_how_much_of_each_picture_is_shown(settings):
    """Each picture is plain, in a value of its own: how much of whom is seen can be read off the result."""
    count = 200
    value = np.arange(count, dtype=np.float32)
    batch = Batch(
        np.broadcast_to(value[:, None, None, None], (count, 12, 15, 3)),
        # Class numbers; where both kinds are on, targets that are soft already.
        np.eye(count, dtype=np.float32) if settings.mixup and settings.cutmix else np.arange(count, dtype=np.int32),
        np.ones(count, bool),
    )
    out = augmented(jax.random.key(0), batch, settings, num_classes=count)
    images, target = np.asarray(out.inputs), np.asarray(out.target)
    assert target.dtype == np.float32
    assert target.shape == (count, count)
    np.testing.assert_allclose(target.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), target @ value, rtol=1e-4, atol=1e-3)
    assert (target > 0).sum(axis=1).max() == 2
    kept = np.diag(target)
    pasted = np.ptp(images, axis=(1, 2, 3)) > 0.5
    if not settings.mixup:
        shown = (np.abs(images[..., 0, None] - value) < 0.5).mean(axis=(1, 2))
        np.testing.assert_allclose(shown, target, atol=1e-6)
    assert pasted.any() == bool(settings.cutmix)
    blended = ~pasted & (target.max(axis=1) < 0.99)
    assert blended.any() == bool(settings.mixup)
    # Beta(0.4, 0.4) is symmetric with most of its mass near 0 and 1; a box of Beta(1, 1) loses what the borders cut.
    low, high = (0.42, 0.58) if not settings.cutmix else (0.6, 0.75) if not settings.mixup else (0.52, 0.67)
    assert low < kept.mean() < high
    if settings == Augment(mixup=0.4):
        assert ((kept < 0.2) | (kept > 0.8)).mean() > 0.45


@pytest.mark.parametrize("size", [(1, 6), (6, 1)])
def test_pictures_one_pixel_wide_stay_within_their_values(size):
    images = noise(16, size).inputs
    out = np.asarray(jax.jit(functools.partial(augment.random_rotation, factor=0.5))(jax.random.key(0), images))
    low, high = (f(images, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    assert np.all((out >= low - 1e-3) & (out <= high + 1e-3))


def test_what_cannot_be_augmented_is_named():
    batch, key = noise(), jax.random.key(0)
    masks = batch._replace(target=np.zeros((8, 20, 27), np.int32))
    with pytest.raises(ConfigError, match=r"mixup=0\.2"):
        augment_batch(key, masks, Augment(mixup=0.2), num_classes=3)
    with pytest.raises(ConfigError, match=r"masks \(8, 10, 27\)"):
        augment_batch(key, batch._replace(target=np.zeros((8, 10, 27), np.int32)), BOOK, num_classes=3)
    with pytest.raises(ConfigError, match=r"shape \(8, 512\)"):
        augment_batch(key, batch._replace(inputs=np.zeros((8, 512), np.float32)), BOOK, num_classes=3)


PUBLIC = [
    function
    for module in (affine, color, geometry, mixing, pipeline, resample)
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__ and not name.startswith("_")
]
ARRAYS = {"images", "target", "matrices", "partner", "share", "box", "mirrored", "turns", "factor", "shift", "delta"}


@pytest.mark.parametrize("function", PUBLIC, ids=lambda function: function.__name__)
def test_api_key_first_options_keyword_only(function):
    parameters = list(inspect.signature(function).parameters.values())
    draws = function.__name__.startswith(("random_", "draw_", "augment_")) or function.__name__ in ("mixup", "cutmix")
    assert [p.name for p in parameters].index("key") == 0 if draws else "key" not in [p.name for p in parameters]
    for p in parameters:
        is_value = p.name in {"key", "batch", "settings", *ARRAYS} and p.annotation not in (int, float)
        assert p.kind == (p.POSITIONAL_OR_KEYWORD if is_value else p.KEYWORD_ONLY), p


def test_every_exported_name_is_covered_by_the_conventions():
    assert {getattr(augment, name) for name in augment.__all__} <= set(PUBLIC)
