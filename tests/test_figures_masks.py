"""Masks as pictures: colours that tell classes apart, overlays, files that keep class numbers."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxvision.data.mask import read_mask
from jaxvision.figures.masks import OPACITY, mask_png, overlay, paint
from jaxvision.figures.palette import palette
from jaxvision.figures.panels import figure_png, legend_of, plot_panels
from jaxvision.types import IGNORE

# Linear red, green, blue as seen by whom one kind of cones is missing (Machado et al. 2009, severity 1).
SEEN = {
    "all cones": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
# Oklab (Ottosson 2020).
CONES = np.array(
    [[0.4122215, 0.5363325, 0.0514460], [0.2119035, 0.6806995, 0.1073970], [0.0883025, 0.2817188, 0.6299787]]
)
LAB = np.array(
    [[0.2104543, 0.7936178, -0.0040720], [1.9779985, -2.4285922, 0.4505937], [0.0259040, 0.7827718, -0.8086758]]
)


@pytest.mark.parametrize("eyes", SEEN)
def test_the_first_colours_and_the_grey_are_told_apart_by_everyone(eyes):
    chosen = palette()[[*range(24), IGNORE]] / 255
    linear = np.where(chosen <= 0.04045, chosen / 12.92, ((chosen + 0.055) / 1.055) ** 2.4)
    lab = np.cbrt(np.clip(linear @ np.array(SEEN[eyes]).T, 0, 1) @ CONES.T) @ LAB.T
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    assert distances[~np.eye(25, dtype=bool)].min() > 0.07


def test_every_class_has_a_colour_of_its_own():
    assert palette().shape == (256, 3)
    assert len(np.unique(palette(), axis=0)) == 256


def test_an_overlay_shows_the_picture_within_regions_and_rims_them():
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    mask = np.zeros((20, 30), np.uint8)
    mask[:, 15:] = 3
    mask[15:] = IGNORE
    drawn = overlay(picture, mask)
    inside = drawn[:14, :14].astype(float), picture[:14, :14] * (1 - OPACITY) + palette()[0] * OPACITY
    np.testing.assert_allclose(*inside, atol=0.51)
    np.testing.assert_array_equal(drawn[:14, 14:16], paint(mask)[:14, 14:16])
    np.testing.assert_array_equal(drawn[14:16], paint(mask)[14:16])
    np.testing.assert_array_equal(overlay(picture[..., :1], mask), overlay(picture[..., :1].repeat(3, axis=2), mask))


def test_a_mask_file_holds_class_numbers_and_their_colours(tmp_path):
    mask = np.random.default_rng(0).integers(0, 256, (7, 9), dtype=np.uint8)
    (tmp_path / "m.png").write_bytes(mask_png(mask))
    with Image.open(tmp_path / "m.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), paint(mask))
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), mask)


def test_the_legend_names_what_is_there():
    names = [f"class {number}" for number in range(200)]
    masks = [np.array([[0, 7]], np.uint8), np.array([[IGNORE, 7]], np.uint8)]
    assert list(legend_of(masks, names)) == ["class 0", "class 7", "ignored"]
    assert legend_of(masks, names)["class 0"] == "#0072b2"
    many = np.repeat(np.arange(40, dtype=np.uint8), np.arange(1, 41))[None]
    assert list(legend_of([many], names)) == [*names[8:40], "and 8 more"]


def test_names_are_drawn_as_they_are():
    legend = {"_hidden": "#0072b2", "$x$ and $": "#e69f00", "x" * 50: "#009e73"}
    figure = plot_panels([np.zeros((9, 9, 3), np.uint8)], columns=1, side=3, heading="a$b$c.png", legend=legend)
    assert figure_png(figure).startswith(b"\x89PNG")  # a lone $ is no formula
    texts = figure.legends[0].get_texts()
    assert [text.get_text() for text in texts] == ["_hidden", "$x$ and $", "x" * 31 + "…"]
    assert not any(text.get_parse_math() for text in texts)


@pytest.mark.parametrize(("size", "columns"), [((40, 60), 3), ((5, 200), 1), ((200, 5), 2)])
def test_no_text_of_a_figure_is_cut_off(size, columns):
    """Nothing is drawn at the border of the figure, whatever the picture's shape and the names' lengths."""
    names = [f"{'long ' * (number % 9)}{number}" for number in range(12)]
    mask = np.random.default_rng(0).integers(0, 12, size, dtype=np.uint8)
    figure = plot_panels(
        [paint(mask)] * columns,
        columns=columns,
        side=2.0,
        titles=["true mask", "prediction", "picture"][:columns],
        heading="a-name-of-a-file-" * 5,
        legend=legend_of([mask], names),
    )
    drawn = np.asarray(Image.open(io.BytesIO(figure_png(figure))).convert("L"))
    for edge in (drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]):
        assert edge.min() == 255
