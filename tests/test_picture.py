"""Reading one picture without TensorFlow: equal to TensorFlow's reading, and plain about files that are no good."""

import io

import broken_pictures as broken
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_reference import run
from PIL import Image, ImageOps

from jaxvision.data.check_picture import check_picture, picture_fault
from jaxvision.data.orientation import orientation
from jaxvision.data.picture import MAX_PIXELS, read_picture, resize_bilinear
from jaxvision.data.picture_file import picture_header, stored_size
from jaxvision.errors import DataError

FAULTS = {
    "zero_byte": "zero bytes",
    "truncated_jpeg": "truncated",
    "html_as_jpg": "not a picture: it looks like an HTML page",
    "corrupt_png": "damaged",
    "png_bomb": "more than",
}


def saved(path, mode, **options):
    broken.picture().convert(mode).save(path, **options)
    return path


def test_reading_and_resizing_equal_tensorflow(tmp_path, shared_data):
    pictures = np.random.default_rng(0).integers(0, 256, (2, 37, 53, 3)).astype(np.uint8)
    sizes = {"up": (180, 190), "down": (11, 17), "mixed": (53, 20)}
    files = [
        shared_data / "dogs-vs-cats/train/cat.0.jpg",
        shared_data / "dogs-vs-cats/train/dog.7.jpg",
        saved(tmp_path / "gray.png", "L"),
        saved(tmp_path / "alpha.png", "RGBA"),
        saved(tmp_path / "palette.png", "P"),
        tmp_path / "16bit.png",
    ]
    Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 54).save(files[-1])
    theirs = run("pictures", *files, pictures=pictures, **sizes)
    for name, size in sizes.items():
        np.testing.assert_allclose(resize_bilinear(pictures, size), theirs[name], atol=1e-3)
    for number, file in enumerate(files):
        for channels in (1, 3):
            ours = read_picture(file, image_size=(50, 70), channels=channels)
            assert ours.dtype == np.uint8
            assert ours.shape == (50, 70, channels)
            # We round to whole units; libpng cuts the fraction off when it makes a coloured PNG gray.
            limit = 1.501 if channels == 1 and file.stem in ("alpha", "palette") else 0.501
            assert np.abs(ours - theirs[f"{number}-{channels}"]).max() <= limit, file


@pytest.mark.parametrize("ending", ["jpg", "png"])
@pytest.mark.parametrize("mark", range(10))
def test_pictures_are_turned_as_pillow_turns_them(mark, ending, tmp_path):
    """In both orders of bytes, with other blocks before the mark, and where it is none of the eight."""
    for order in "<>":
        exif = Image.Exif()
        exif.endian = order
        exif[0x010F], exif[0x0112] = "maker", mark
        noise = np.random.default_rng(0).integers(0, 256, (7, 11, 3), dtype=np.uint8)
        path = tmp_path / f"{'le' if order == '<' else 'be'}.{ending}"
        Image.fromarray(noise).save(path, exif=exif, icc_profile=b"x" * 9000, dpi=(72, 72))
        image = Image.open(path)
        np.testing.assert_array_equal(read_picture(path), np.asarray(ImageOps.exif_transpose(image)))
        assert picture_header(path) == ((7, 11), mark if 1 <= mark <= 8 else 1, False, False)
        assert ("EXIF orientation: turned as it says" in check_picture(path).notes) == (2 <= mark <= 8)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_no_bytes_break_the_reading_of_headers(data):
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    broken.picture(size=(9, 8)).save(buffer, data.draw(st.sampled_from(["JPEG", "PNG"])), exif=exif)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, 150))] = data.draw(st.integers(0, 255))
    content = bytes(content[: data.draw(st.integers(0, len(content)))])
    assert 1 <= orientation(content) <= 8
    assert min(stored_size(content)) >= 0


def test_channels_default_to_what_the_file_holds(tmp_path):
    gray, colour = saved(tmp_path / "gray.png", "L"), broken.good(tmp_path / "colour.png")
    np.testing.assert_array_equal(read_picture(colour), np.asarray(broken.picture()))
    assert read_picture(gray).shape == (40, 60, 1)
    assert read_picture(gray, channels=3).shape == (40, 60, 3)
    with pytest.raises(DataError, match="channels=2"):
        read_picture(gray, channels=2)


@pytest.mark.parametrize("kind", FAULTS)
def test_broken_files_are_refused_by_name_and_reason(kind, tmp_path):
    path = getattr(broken, kind)(tmp_path / ("x.png" if "png" in kind else "x.jpg"))
    assert FAULTS[kind] in picture_fault(path)
    with pytest.raises(DataError, match=FAULTS[kind]) as caught:
        read_picture(path)
    assert str(path) in str(caught.value)
    assert "Received: " in str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP"])
def test_no_truncation_goes_unnoticed(kind, tmp_path):
    content = broken.encoded(kind)
    end_marks = 4  # what comes after the pixels
    for length in np.linspace(0, len(content) - end_marks, 40).astype(int):
        path = tmp_path / f"cut.{kind.lower()}"
        path.write_bytes(content[:length])
        assert picture_fault(path) is not None, f"cut to {length} of {len(content)} bytes"
    path.write_bytes(content)
    assert picture_fault(path) in (None, "mislabelled: named .jpeg but holds a JPEG picture")


def test_missing_files_folders_and_other_things_are_told_apart(tmp_path):
    assert picture_fault(tmp_path / "gone.jpg") == "missing: there is no such file"
    assert "folder" in picture_fault(tmp_path)
    for content, looks in {
        b"cat,1\ndog,0\n": "text",
        b"PK\3\4....": "a zip archive",
        b"\0" * 99: "nothing but zero bytes",
        b"\x90\x01\x02\xff": "unknown binary data",
        b"<?xml version='1.0'?><svg/>": "an SVG drawing",
    }.items():
        (tmp_path / "x.jpg").write_bytes(content)
        assert picture_fault(tmp_path / "x.jpg") == f"not a picture: it looks like {looks}"


def test_a_wrong_ending_is_a_fault_but_can_be_read(tmp_path):
    png, gif = broken.png_as_jpg(tmp_path / "a.jpg"), broken.gif_as_jpg(tmp_path / "b.JPG")
    assert picture_fault(png) == "mislabelled: named .jpg but holds a PNG picture"
    assert picture_fault(gif) == "mislabelled: named .jpg but holds a GIF picture"
    np.testing.assert_array_equal(read_picture(png), np.asarray(broken.picture()))
    assert picture_fault(broken.good(tmp_path / "c.JPEG")) is None


def test_a_bomb_is_refused_without_decoding_it(tmp_path):
    path = broken.png_bomb(tmp_path / "bomb.png")
    assert MAX_PIXELS < 20000 * 20000
    assert path.stat().st_size < 1000
    # Its rows are missing, so a decode would have said "truncated".
    assert "refused before decoding" in picture_fault(path)


def test_unusual_pictures_are_noted_not_refused(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [broken.picture(seed) for seed in (1, 2)]
    sixteen = tmp_path / "sixteen.png"
    Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 54).save(sixteen)
    cases = {
        saved(tmp_path / "cmyk.jpg", "CMYK"): "CMYK",
        saved(tmp_path / "turned.jpg", "RGB", exif=exif): "EXIF",
        saved(tmp_path / "moving.gif", "P", save_all=True, append_images=frames): "animated",
        saved(tmp_path / "alpha.png", "RGBA"): "transparent",
        sixteen: "16 bits",
    }
    for path, word in cases.items():
        check = check_picture(path)
        assert check.fault is None, path
        assert [word in note for note in check.notes] == [True], path
