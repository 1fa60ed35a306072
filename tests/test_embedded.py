"""The embedded sources: the digits are scikit-learn's, the shapes are what their labels and masks say."""

import hashlib

import numpy as np
import pytest
from sklearn.datasets import load_digits

from jaxvision import config
from jaxvision.data.digits import digits, split
from jaxvision.data.shapes import CLASS_NAMES, draw_shapes, shapes
from jaxvision.errors import ConfigError


def parts(dataset):
    return {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}


def test_digits_are_stratified_disjoint_and_fixed():
    dataset = digits(config.Data())
    assert dataset.class_names == tuple("0123456789")
    assert dataset.image_shape == (28, 28, 1)
    counts = {name: np.bincount(part.target).tolist() for name, part in parts(dataset).items()}
    assert sum(counts["train"]) == 1297
    assert counts["validation"] == counts["test"] == [25] * 10
    for part in parts(dataset).values():
        assert part.inputs.dtype == np.uint8
        assert part.target.dtype == np.int32
        assert part.inputs.shape[1:] == (28, 28, 1)
        assert part.inputs.max() == 255
        assert part.inputs.min() == 0
    chosen = split(np.arange(1797) % 10)
    assert sorted(np.concatenate(list(chosen.values()))) == list(range(1797))
    # Published accuracies depend on this split: it may never change unnoticed.
    assert hashlib.sha256(dataset.test.target.tobytes()).hexdigest()[:16] == "f81fa9913fa2c9f0"
    assert hashlib.sha256(dataset.test.inputs.tobytes()).hexdigest()[:16] == "3a2e51057ba385ae"


def test_digits_resize_to_the_size_and_channels_asked_for():
    stored = digits(config.Data(image_size=(8, 8))).train.inputs
    assert set(np.unique(stored)) == set(np.rint(np.arange(17) * 255 / 16).astype(int))
    large = digits(config.Data(image_size=(16, 32), channels=3)).train.inputs
    assert large.shape == (1297, 16, 32, 3)
    np.testing.assert_array_equal(large[..., 0], large[..., 2])
    # The mean over a half-pixel-centred enlargement by whole factors is nearly the stored mean.
    np.testing.assert_allclose(large.mean(axis=(1, 2, 3)), stored.mean(axis=(1, 2, 3)), atol=3)


def test_digits_are_scikit_learns():
    theirs = load_digits()
    ours = digits(config.Data(image_size=(8, 8)))
    expected = np.rint(theirs.images * 255 / 16).astype(np.uint8)
    for name, chosen in split(theirs.target).items():
        np.testing.assert_array_equal(parts(ours)[name].inputs[..., 0], expected[chosen])
        np.testing.assert_array_equal(parts(ours)[name].target, theirs.target[chosen])


def test_a_shape_is_a_pure_function_of_seed_and_number():
    whole, some = draw_shapes(0, 250), draw_shapes(95, 20)
    for a, b in zip(whole, some, strict=True):
        np.testing.assert_array_equal(a[95:115], b)
    assert not (draw_shapes(95, 20, seed=1)[0] == some[0]).all()
    assert len({picture.tobytes() for picture in whole[0]}) == 250


def test_shapes_source_gives_balanced_disjoint_parts():
    dataset = shapes(config.Data())
    assert dataset.class_names == CLASS_NAMES
    assert dataset.image_shape == (64, 64, 3)
    assert [len(part.target) for part in parts(dataset).values()] == [2000, 500, 500]
    for part in parts(dataset).values():
        assert np.ptp(np.bincount(part.target)) <= 1
        assert part.inputs.dtype == np.uint8
    pictures = [picture.tobytes() for part in parts(dataset).values() for picture in part.inputs]
    assert len(set(pictures)) == 3000
    np.testing.assert_array_equal(dataset.validation.inputs[:5], draw_shapes(2000, 5)[0])
    assert shapes(config.Data(image_size=(32, 48), channels=1)).train.inputs.shape == (2000, 32, 48, 1)
    with pytest.raises(ConfigError, match=r"data\.image_size.*Received"):
        shapes(config.Data(image_size=(16, 64)))


def test_masks_show_the_shape_the_label_names():
    _, labels, masks = draw_shapes(0, 300)
    assert set(np.unique(masks)) == {0, 1, 2}
    # The whole shape lies in the picture: its border is background.
    assert not masks[:, [0, -1]].any()
    assert not masks[:, :, [0, -1]].any()
    y, x = np.mgrid[:64, :64]
    measured = []
    for mask in masks == 1:
        area, (cy, cx) = mask.sum(), (y[mask].mean(), x[mask].mean())
        furthest = np.hypot(y[mask] - cy, x[mask] - cx).max()
        measured.append(np.pi * (furthest + 0.5) ** 2 / area)
    # Circumscribed circle over area: 1 for a disc, pi/2 for a square, 4 pi / (3 sqrt 3) = 2.42 for a triangle.
    for label, expected in enumerate((1.0, np.pi / 2, 2.418)):
        assert abs(np.median(np.array(measured)[labels == label]) / expected - 1) < 0.12
    # Every boundary between shape and background is covered by contour.
    for axis in (1, 2):
        assert not (np.abs(np.diff(np.where(masks == 2, 1, masks * 2), axis=axis)) == 2).any()


def test_one_pixel_tells_nothing_about_the_mask():
    """Colours inside and outside have one distribution, so no function of a pixel alone finds the shape."""
    pictures, _, masks = draw_shapes(0, 600)
    inside, outside = pictures[masks == 1].astype(float), pictures[masks == 0].astype(float)
    assert np.abs(inside.mean(0) - outside.mean(0)).max() < 5
    assert np.abs(inside.std(0) - outside.std(0)).max() < 5
    bins = [np.arange(0, 257, 32)] * 3
    odds = [np.histogramdd(values, bins=bins)[0] / len(values) for values in (inside, outside)]
    # Total variation of the joint colours over 512 boxes; 600 pictures make two equal distributions differ a little.
    assert np.abs(odds[0] - odds[1]).sum() / 2 < 0.25


def test_a_picture_as_a_whole_does_tell_the_mask():
    """Nearest of two colours (median of the border, median of the centre of the shape) separates shape from ground."""
    pictures, _, masks = draw_shapes(0, 100)
    hits = []
    for picture, mask in zip(pictures.astype(float), masks, strict=True):
        colours = [np.median(picture[mask == k], axis=0) for k in (0, 1)]
        nearer = np.square(picture - colours[1]).sum(-1) < np.square(picture - colours[0]).sum(-1)
        hits.append((nearer == (mask == 1))[mask != 2].mean())
    assert np.mean(hits) > 0.97
    assert np.min(hits) > 0.85
