"""Nine augmented versions of one picture, with its mask where the task has masks."""

import numpy as np
import pytest
from PIL import Image

from jaxvision.cli import main
from jaxvision.config import Augment
from jaxvision.figures.palette import palette
from jaxvision.report.preview import augmented_versions
from jaxvision.types import IGNORE


def test_masks_move_with_their_pictures():
    mask = np.random.default_rng(0).choice(np.array([0, 1, 2, IGNORE], np.uint8), (20, 30))
    pictures, masks = augmented_versions(mask[..., None], Augment("both", crop_padding=3), seed=0, mask=mask)
    assert masks.dtype == np.uint8
    np.testing.assert_array_equal(pictures[..., 0], masks)
    assert len({version.tobytes() for version in masks}) == 9
    brighter, same = augmented_versions(mask[..., None], Augment(brightness=0.3, mixup=0.2), seed=0, mask=mask)
    assert len({version.tobytes() for version in brighter}) == 9
    assert all(np.array_equal(version, mask) for version in same)
    assert augmented_versions(mask[..., None], Augment("both"), seed=0)[1] is None


@pytest.mark.parametrize(("name", "masked"), [("digits", False), ("shapes", True)])
def test_the_command_draws_nine_versions_and_the_colours_of_classes(name, masked, tmp_path):
    out = tmp_path / "p.png"
    flags = ["--data.limit-train", "20", "--augment.rotation", "0.1"]
    assert main(["preview", name, *flags, "--out", str(out)]) == 0
    with Image.open(out) as image:
        drawn = np.asarray(image.convert("RGB"))
    assert drawn.shape[1] == pytest.approx(drawn.shape[0], rel=0.1)
    assert drawn.std() > 20
    for colour in palette()[:3]:  # rims of regions, and the legend
        assert ((drawn == colour).all(axis=-1).sum() > 1000) == masked
