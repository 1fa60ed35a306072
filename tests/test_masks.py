"""Masks: how a file becomes class numbers, how they are resized with their picture, and folders of them."""

import re
import struct
import zlib

import numpy as np
import pytest
from batches import assert_same
from broken_pictures import corrupt_png, html_as_jpg, zero_byte
from PIL import Image

from jaxvision import config
from jaxvision.data import open_dataset, open_feed
from jaxvision.data.mask import MaskRule, read_mask, resize_nearest
from jaxvision.data.parts import decoded_bytes
from jaxvision.data.pipeline import decode
from jaxvision.errors import ConfigError, DataError

NUMBERS = np.arange(12, dtype=np.uint8).reshape(3, 4) % 4


def gray_png(path, bits):
    """NUMBERS as a gray PNG of 1, 2 or 4 bits a pixel, which Pillow cannot write."""
    rows = b""
    for row in NUMBERS % 2**bits:
        packed = sum(int(value) << (8 - bits * (column + 1)) for column, value in enumerate(row[: 8 // bits]))
        rest = sum(int(value) << (8 - bits * (column + 1)) for column, value in enumerate(row[8 // bits :]))
        rows += bytes([0, packed, rest][: 1 + -(-4 * bits // 8)])
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", 4, 3, bits, 0, 0, 0, 0), b"IDAT" + zlib.compress(rows), b"IEND"]
    framed = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(framed))


@pytest.mark.parametrize("kind", ["L", "P", "1", "I;16", "gif", "bmp", "2 bits", "4 bits"])
def test_numbers_are_read_as_they_are_stored(kind, tmp_path):
    path, expected = tmp_path / f"a.{kind if len(kind) == 3 else 'png'}", NUMBERS
    if "bits" in kind:
        gray_png(path, int(kind[0]))
    elif kind == "1":
        expected = NUMBERS % 2
        Image.fromarray(expected == 1).save(path)
    elif kind == "I;16":
        expected = NUMBERS.astype(np.uint16) + 300
        Image.fromarray(expected).save(path)
    else:
        image = Image.fromarray(NUMBERS)
        if kind != "L":
            image.putpalette([200, 0, 0, 10, 20, 30, 200, 0, 0, 7, 7, 7])  # two numbers share a colour
        image.save(path)
    np.testing.assert_array_equal(read_mask(path), expected)


def test_what_is_no_mask_is_refused(tmp_path):
    def refused(name, message, image=None):
        if image is not None:
            image.save(tmp_path / name)
        with pytest.raises(DataError, match=f"{re.escape(str(tmp_path / name))}: {message}"):
            read_mask(tmp_path / name)

    colour = Image.fromarray(np.zeros((3, 4, 3), np.uint8))
    refused("rgb.png", r"a mask must hold one number a pixel.*colours.*\(mode RGB\)", colour)
    refused("rgba.png", "a mask must hold one number a pixel.*colours", colour.convert("RGBA"))
    refused("a.jpg", "a JPEG cannot be a mask: it keeps numbers only about", colour.convert("L"))
    refused(zero_byte(tmp_path / "b.png").name, "empty: zero bytes")
    refused(html_as_jpg(tmp_path / "c.png").name, "not a picture: it looks like an HTML page")
    refused(corrupt_png(tmp_path / "d.png").name, "a mask must hold|damaged")
    refused("e.png", "missing: there is no such file")


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_offset_and_ignored_numbers(dtype):
    stored = np.array([[1, 2], [3, 9]], dtype)
    numbers = MaskRule(3, 1, 9).class_numbers(stored)
    assert numbers.dtype == np.uint8
    assert numbers.tolist() == [[0, 1], [2, 255]]
    assert MaskRule(2, 1, 3).class_numbers(stored[:, :1]).tolist() == [[0], [255]]  # a class may be ignored
    with pytest.raises(DataError, match=r"must hold 1 to 2 or 9 \(ignored\). Received: 3 \(1 pixels\)"):
        MaskRule(2, 1, 9).class_numbers(stored)
    with pytest.raises(DataError, match=r"must hold 0 to 254. Received: 255 \(1 pixels\)"):
        MaskRule().class_numbers(np.array([[255]], dtype))


@pytest.mark.parametrize("size", [(7, 11), (30, 9), (3, 64), (16, 16)])
@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_nearest_is_tensorflows(size, resize):
    tf = pytest.importorskip("tensorflow")
    from jaxvision.data.tf_picture import cropped

    masks = np.random.default_rng(0).integers(0, 255, (2, 16, 21), dtype=np.uint8)
    for mask, ours in zip(masks, resize_nearest(masks, size, resize), strict=True):
        stored = cropped(tf.constant(mask[..., None]), size) if resize == "crop" else mask[..., None]
        np.testing.assert_array_equal(ours, tf.image.resize(stored, size, method="nearest")[..., 0])


CLASSES = ("sky", "road", "tree")


def write_pairs(root, count=10, size=(27, 36), offset=0):
    """Pictures whose gray value tells the class of each pixel: 60 times the number in the mask."""
    for folder in (root / "images", root / "masks"):
        folder.mkdir(parents=True)
    # Blocks of 3 pixels: at a third of the size each pixel is the middle of one block, whatever the rule.
    coarse = np.random.default_rng(0).integers(0, 3, (count, size[0] // 3, size[1] // 3), dtype=np.uint8)
    masks = coarse.repeat(3, 1).repeat(3, 2)
    for number, mask in enumerate(masks):
        Image.fromarray(mask * 60).save(root / "images" / f"{number}.png")
        Image.fromarray(mask + np.uint8(offset)).save(root / "masks" / f"{number}.png")
    return masks


def opened(root, **settings):
    settings = {"source": "masks", "path": str(root), "batch_size": 4, "cache": "off"} | settings
    return open_dataset(config.Data(**settings))


@pytest.mark.parametrize("residence", ["device", "stream"])
@pytest.mark.parametrize(
    ("resize", "image_size"), [("stretch", None), ("stretch", (9, 12)), ("crop", (9, 9)), ("crop", (6, 12))]
)
def test_a_mask_stays_on_its_picture_to_the_pixel(tmp_path, resize, image_size, residence):
    """Through files, through arrays, and shuffled: the picture still tells what its mask says."""
    masks = write_pairs(tmp_path / "data")
    part = opened(tmp_path / "data", resize=resize, image_size=image_size, class_names=CLASSES).train
    given = {"train": (masks * 60, masks.astype(np.int64)), "class_names": CLASSES}
    arrays = open_dataset(config.Data(resize=resize, image_size=image_size, batch_size=4), given=given).train
    read = []
    for one in (part, arrays):
        feed = open_feed(one, batch_size=4, seed=5, residence=residence, resident_mb=9)
        batches = list(feed.batches(2))
        assert [len(batch.target) for batch in batches] == [4, 4, 2]
        for batch in batches:
            assert batch.target.dtype == np.uint8
            assert batch.target.shape[1:] == (image_size or (27, 36))
            np.testing.assert_array_equal(np.asarray(batch.inputs)[..., 0], np.asarray(batch.target) * 60)
        read.append(np.concatenate([batch.target for batch in batches]))
    np.testing.assert_array_equal(read[0], read[1])
    assert decoded_bytes(part) == 10 * read[0][0].size * 4
    assert decoded_bytes(arrays) == 10 * read[0][0].size * 2


def test_classes_are_named_or_numbered(tmp_path):
    write_pairs(tmp_path / "train")
    write_pairs(tmp_path / "offset", offset=1)
    dataset = opened(tmp_path / "train")
    assert dataset.class_names == ("0", "1", "2")
    assert (dataset.image_shape, dataset.validation, dataset.test) == ((27, 36, 3), None, None)
    named = opened(tmp_path / "offset", label_offset=1, class_names=CLASSES)
    assert named.class_names == CLASSES
    np.testing.assert_array_equal(np.asarray(named.train.target), np.asarray(dataset.train.target))
    parts = opened(tmp_path / "train", validation_fraction=0.3, limit_train=5)
    assert (parts.train.target.shape, parts.validation.target.shape) == ((5, 27, 36), (3, 27, 36))
    assert parts.fingerprint == dataset.fingerprint
    assert len({dataset.fingerprint, named.fingerprint, opened(tmp_path / "train", ignore_label=2).fingerprint}) == 3
    assert opened(tmp_path / "train", ignore_label=2).class_names == ("0", "1")


def test_parts_in_folders_of_their_own(tmp_path):
    for name in ("train", "validation", "test"):
        write_pairs(tmp_path / name, count=4)
    dataset = opened(tmp_path)
    assert [len(part.target) for part in (dataset.train, dataset.validation, dataset.test)] == [4, 4, 4]
    assert "validation/masks/0.png" in dataset.validation.target.paths[0]
    (tmp_path / "validation").rename(tmp_path / "valid")
    with pytest.raises(DataError, match=r"there may be .* Rename it: valid -> validation.*Received: valid"):
        opened(tmp_path)


def test_every_fault_of_the_folders_names_both_files(tmp_path):
    write_pairs(tmp_path, count=30)
    images, masks = tmp_path / "images", tmp_path / "masks"

    def refused(message, kind=DataError, **settings):
        with pytest.raises(kind, match=message) as caught:
            opened(tmp_path, **settings)
        assert "Received: " in str(caught.value) or "Received:" in str(caught.value)
        return str(caught.value)

    Image.fromarray(np.full((27, 36), 7, np.uint8)).save(masks / "3.png")
    dataset = opened(tmp_path, class_names=CLASSES)
    with pytest.raises(DataError, match=r"masks/3.png, the mask of .*images/3.png: a mask must hold 0 to 2.*: 7 \(972"):
        decode(dataset.train)
    Image.fromarray(np.zeros((36, 27), np.uint8)).save(masks / "3.png")
    refused(r"1 pictures or masks do not fit.*\n.*masks/3.png: 36 x 27 .*its picture .*images/3.png has 27 x 36")
    Image.fromarray(np.zeros((27, 36, 3), np.uint8)).save(masks / "3.png")
    refused("masks/3.png, the mask of .*images/3.png: a mask must hold one number a pixel")
    (masks / "3.png").rename(masks / "3.jpg")
    refused("masks/3.jpg: a JPEG cannot be a mask")
    (masks / "3.jpg").unlink()
    (images / "4.png").unlink()
    text = refused("2 pictures and masks have no partner")
    assert f"{images}/3.png: no mask {masks}/3.png" in text
    assert f"{masks}/4.png: no picture {images}/4.png" in text
    for number in range(5, 30):
        (masks / f"{number}.png").unlink()
    text = refused("27 pictures and masks have no partner")
    assert text.endswith("and 7 more")
    assert text.count("no mask") + text.count("no picture") == 20
    (images / "0.jpg").write_bytes((images / "0.png").read_bytes())
    refused("names belong to two files.*\n.*images/0.jpg and .*images/0.png")
    refused("no folders images and masks.*Received: 0.jpg", path=str(images))


def test_other_sources_with_masks(tmp_path):
    shapes = open_dataset(config.Data(source="shapes", target="mask", ignore_label=2, image_size=(24, 24)))
    assert shapes.class_names == ("background", "shape", "contour")
    assert shapes.train.target.shape == (2000, 24, 24)
    assert set(np.unique(shapes.train.target)) == {0, 1, 255}
    assert open_dataset(config.Data(source="shapes", target="label")).train.target.ndim == 1
    for message, settings in (
        ("shapes have a label and a mask. Received: 'masks'", {"source": "shapes", "target": "masks"}),
        ("data.target: there is but one thing", {"source": "digits", "target": "mask"}),
        ("data.ignore_label is for masks", {"source": "digits", "ignore_label": 3}),
    ):
        with pytest.raises(ConfigError, match=message):
            open_dataset(config.Data(**settings))
    with pytest.raises(DataError, match=r"data.class_names: the data has names of its own, circle, square, triangle"):
        open_dataset(config.Data(source="shapes", class_names=("a", "b", "c")))


def test_streets(shared_data):
    names = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]
    settings = {"class_names": tuple(names), "ignore_label": 11, "image_size": (60, 80), "validation_fraction": 0.2}
    dataset = opened(shared_data / "camvid", **settings)
    assert len(dataset.train.target) + len(dataset.validation.target) == 367
    few = opened(shared_data / "camvid", **settings, limit_train=5).train
    assert set(np.unique(few.target)) <= {*range(11), 255}
    streamed, resident = (
        list(open_feed(few, batch_size=5, seed=0, residence=residence, resident_mb=9).batches(0))
        for residence in ("stream", "device")
    )
    assert_same(streamed, resident)
