"""Rare kinds of image files: training (TensorFlow), `predict` (Pillow) and `check` agree on pixels and on refusals."""

import io
import struct
import warnings
import zlib

import broken_pictures as broken
import numpy as np
import pytest
from faults import fault
from PIL import Image, ImageOps
from predicted_runs import finished_run

from jaxvision import config
from jaxvision.cli import main
from jaxvision.data import FilePart, open_dataset
from jaxvision.data.check import check_data
from jaxvision.data.check_picture import check_picture
from jaxvision.data.marks import read_marks
from jaxvision.data.picture import read_picture
from jaxvision.data.picture_file import EXTENSIONS, picture_header
from jaxvision.data.pipeline import decode
from jaxvision.data.tf_picture import decode_file
from jaxvision.errors import DataError

tf = pytest.importorskip("tensorflow")

XMP = """<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description {}</rdf:RDF></x:xmpmeta>"""
ATTRIBUTE = XMP.format('xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>')
ELEMENT = XMP.format("><tiff:Orientation>6</tiff:Orientation></rdf:Description>")


def chunk(kind, data, *, broken_sum=False):
    checksum = zlib.crc32(kind + data) ^ broken_sum
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def png(rows, *, size=(20, 30), before=b"", after=b"", depth=8, colour=2, interlaced=0):
    """A PNG of `rows` as they are compressed, with other chunks before and after them."""
    header = struct.pack(">IIBBBBB", size[1], size[0], depth, colour, 0, 0, interlaced)
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + pixels + after + chunk(b"IEND", b"")


def noise_rows(count=20, width=90):
    noise = np.random.default_rng(0).integers(0, 256, (count, width), np.uint8)
    return b"".join(b"\0" + row.tobytes() for row in noise)


def exif(mark):
    found = Image.Exif()
    found[0x0112] = mark
    return found


def international(text, *, packed=False):
    data = zlib.compress(text.encode()) if packed else text.encode()
    return chunk(b"iTXt", b"XML:com.adobe.xmp\0" + bytes((packed, 0)) + b"en\0key\0" + data)


def raw_profile(*, packed=False):
    """EXIF as ImageMagick writes it."""
    block = exif(6).tobytes()
    text = f"\nexif\n{len(block):8}\n{block.hex()}\n".encode()
    if packed:
        return chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))
    return chunk(b"tEXt", b"Raw profile type exif\0" + text)


def jpeg(**settings):
    buffer = io.BytesIO()
    broken.picture(size=(20, 30)).save(buffer, "JPEG", **settings)
    return buffer.getvalue()


def jpeg_xmp(text, **settings):
    segment = b"http://ns.adobe.com/xap/1.0/\0" + text.encode()
    content = jpeg(**settings)
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + content[2:]


def trained_with(*paths, size=(20, 30), resize="stretch"):
    """The pixels of files as training has them."""
    target = np.zeros(len(paths), np.int32)
    return decode(FilePart(tuple(map(str, paths)), target, size, 3, resize)).inputs


def verdicts(path):
    """Whether check, predict and training take the file."""
    found = [check_picture(path).fault is None]
    for read in (lambda: read_picture(path), lambda: trained_with(path)):
        try:
            read()
        except DataError as error:
            assert str(path) in str(error)  # noqa: PT017
            found.append(False)
        else:
            found.append(True)
    return found


TURNED = {
    "XMP in PNG, attribute": png(noise_rows(), before=international(ATTRIBUTE)),
    "XMP in PNG, element": png(noise_rows(), before=international(ELEMENT)),
    "XMP in PNG, packed": png(noise_rows(), before=international(ATTRIBUTE, packed=True)),
    "XMP in PNG, after the pixels": png(noise_rows(), after=international(ELEMENT)),
    "XMP in PNG, far after the start": png(noise_rows(200, 9000), size=(200, 3000), after=international(ELEMENT)),
    "EXIF in PNG, after the pixels": png(noise_rows(), after=chunk(b"eXIf", exif(6).tobytes())),
    "EXIF as text in PNG": png(noise_rows(), before=raw_profile()),
    "EXIF as packed text in PNG": png(noise_rows(), before=raw_profile(packed=True)),
    "XMP in JPEG": jpeg_xmp(ATTRIBUTE),
    "XMP in JPEG, beside EXIF without a mark": jpeg_xmp(ELEMENT, exif=Image.Exif()),
}


@fault(
    "orientation in XMP, or in ImageMagick's text",
    happens="survived: turned in training and `predict` as by EXIF, which comes first; `check` notes it",
)
@pytest.mark.parametrize("kind", TURNED)
def test_marks_outside_of_exif_turn_images_too(kind, tmp_path):
    path = tmp_path / f"x.{'jpg' if 'JPEG' in kind else 'png'}"
    path.write_bytes(TURNED[kind])
    image = Image.open(path)
    expected = np.asarray(ImageOps.exif_transpose(image))
    assert expected.shape[:2] == image.size
    np.testing.assert_array_equal(read_picture(path), expected)
    assert picture_header(path).mark == 6
    assert check_picture(path).notes == ("EXIF orientation: turned as it says",)
    trained = trained_with(path, size=expected.shape[:2])[0]
    assert np.abs(trained.astype(int) - expected).max() <= (10 if "JPEG" in kind else 0)


def test_exif_comes_before_xmp_and_damaged_marks_are_passed_over(tmp_path):
    block = chunk(b"eXIf", exif(1).tobytes())
    for number, before in enumerate(
        (
            block + international(ATTRIBUTE),
            international(ATTRIBUTE.replace('"6"', '"9"')),
            chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 9\nxyz"),
            chunk(b"zTXt", b"Raw profile type exif\0\0no zlib"),
            chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0no zlib"),
        )
    ):
        path = tmp_path / f"{number}.png"
        path.write_bytes(png(noise_rows(), before=before))
        assert picture_header(path).mark == 1
    path = tmp_path / "x.jpg"
    path.write_bytes(jpeg_xmp(ATTRIBUTE, exif=exif(3)))
    assert picture_header(path).mark == 3


@pytest.mark.parametrize("ending", ["webp", "tif"])
def test_other_formats_are_turned_as_pillow_turns_them(ending, tmp_path):
    path = tmp_path / f"x.{ending}"
    settings = {"lossless": True} if ending == "webp" else {}
    broken.picture().save(path, exif=exif(6), **settings)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    assert expected.shape == (60, 40, 3)
    np.testing.assert_array_equal(read_picture(path), expected)


@fault("BMP with the header of OS/2", happens="survived: read as other BMPs are")
def test_an_old_bmp_is_no_bomb(tmp_path):
    height, width = 200, 300
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    rows = noise[::-1, :, ::-1].tobytes()  # from the bottom, blue first
    header = b"BM" + struct.pack("<IHHI", 26 + len(rows), 0, 0, 26) + struct.pack("<IHHHH", 12, width, height, 1, 24)
    path = tmp_path / "a" / "x.bmp"
    path.parent.mkdir()
    path.write_bytes(header + rows)
    assert picture_header(path).size == (height, width)
    np.testing.assert_array_equal(read_picture(path), noise)
    np.testing.assert_array_equal(trained_with(path, size=(height, width))[0], noise)
    broken.good(tmp_path / "b" / "y.bmp", size=(height, width))
    assert check_data(tmp_path).ok
    assert open_dataset(config.Data("folder", str(tmp_path))).image_shape == (height, width, 3)


def test_a_bomb_within_a_small_gif_is_called_one(tmp_path):
    content = bytearray(broken.encoded("GIF"))
    place = content.index(b",\0\0\0\0" + struct.pack("<HH", 60, 40))
    content[place + 5 : place + 9] = struct.pack("<HH", 65000, 65000)
    path = tmp_path / "x.gif"
    path.write_bytes(content)
    assert check_picture(path).fault.startswith(
        "too large: an image larger than the file's own size, and than 67108864 "
    )
    assert verdicts(path) == [False] * 3


@fault("CMYK without Adobe's mark", happens="survived: the same in training and `predict`")
@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_cmyk_is_the_same_in_training_and_prediction(resize, tmp_path):
    buffer = io.BytesIO()
    broken.picture(size=(20, 30)).convert("CMYK").save(buffer, "JPEG", quality=100)
    content = buffer.getvalue()
    begin = content.index(b"\xff\xee")
    plain = content[:begin] + content[begin + 2 + int.from_bytes(content[begin + 2 : begin + 4], "big") :]
    paths = [tmp_path / "adobe.jpg", tmp_path / "plain.jpg", tmp_path / "rgb.jpg"]
    for path, given in zip(paths, (content, plain, jpeg()), strict=True):
        path.write_bytes(given)
    size = (10, 30) if resize == "crop" else (20, 30)
    trained = trained_with(*paths, size=size, resize=resize)
    for path, ours in zip(paths, trained, strict=True):
        expected = read_picture(path, image_size=size, resize=resize)
        assert np.abs(ours.astype(int) - expected).max() <= (10 if path == paths[2] else 0), path


@pytest.mark.parametrize("quality", [50, 75, 90, 95, 100])
def test_decoders_differ_by_the_discrete_cosine_transform_alone(quality):
    """The bounds that the README gives; by its accurate transform TensorFlow's pixels are Pillow's."""
    generator = np.random.default_rng(0)
    sharp = np.zeros((120, 160, 3), np.uint8)
    for top, left, height, width in generator.integers(1, 100, (60, 4)):
        sharp[top : top + height, left : left + width] = generator.integers(0, 256, 3)
    noise = generator.integers(0, 256, sharp.shape, np.uint8)
    for pixels in (np.asarray(broken.picture(size=(120, 160))), sharp, noise):
        for subsampling in ("4:4:4", "4:2:2", "4:2:0", "4:1:1"):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
            by_pillow = np.asarray(Image.open(buffer)).astype(int)
            accurate = tf.io.decode_jpeg(buffer.getvalue(), dct_method="INTEGER_ACCURATE").numpy()
            np.testing.assert_array_equal(accurate, by_pillow)
            difference = np.abs(tf.io.decode_jpeg(buffer.getvalue()).numpy() - by_pillow)
            assert difference.max() <= (8 if quality <= 90 else 21 if quality <= 95 else 99)
            assert difference.mean() <= (2 if quality <= 95 else 12)


REFUSED = {
    "too few rows": (png(noise_rows(10)), "truncated: .*910 of 1820 bytes of its pixels"),
    "too few rows, interlaced": (png(noise_rows(10), interlaced=1), "truncated"),
    "unknown part": (png(noise_rows(), before=chunk(b"CgBI", b"1234")), "must be understood is unknown: CgBI"),
    "damaged text": (png(noise_rows(), before=chunk(b"tEXt", b"a\0b", broken_sum=True)), "damaged"),
    "damaged profile": (png(noise_rows(), before=chunk(b"iCCP", b"a\0\1abc")), "damaged"),
    "animation without frames": (png(noise_rows(), before=chunk(b"acTL", struct.pack(">II", 1, 0))), None),
}


@fault(
    "PNG with too few rows, an unknown part, or damaged before its pixels",
    happens="refused: `train`, `check` and `predict` name the file and why",
)
@pytest.mark.parametrize("kind", REFUSED)
def test_damaged_pngs_are_refused_everywhere(kind, tmp_path):
    content, reason = REFUSED[kind]
    path = tmp_path / "x.png"
    path.write_bytes(content)
    if reason is None:  # up to Pillow, so long as all agree
        assert len(set(verdicts(path))) == 1
        return
    assert verdicts(path) == [False] * 3
    with pytest.raises(DataError, match=reason):
        read_picture(path)
    with pytest.raises(DataError, match=reason):
        trained_with(path)


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize(("depth", "colour"), [(1, 0), (4, 0), (16, 0), (8, 2), (16, 2), (2, 3), (8, 4), (16, 6)])
@pytest.mark.parametrize("size", [(20, 30), (1, 1), (3, 5)])
def test_whole_pngs_of_every_kind_are_read(size, depth, colour, interlaced, tmp_path):
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    steps = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    shapes = [(len(range(y, size[0], dy)), len(range(x, size[1], dx))) for y, x, dy, dx in steps]
    shapes = [(rows, columns) for rows, columns in shapes if columns] if interlaced else [size]
    rows = b"".join(noise_rows(count, (columns * bits + 7) // 8) for count, columns in shapes)
    palette = chunk(b"PLTE", bytes(range(12))) if colour == 3 else b""
    path = tmp_path / "x.png"
    path.write_bytes(png(rows, size=size, before=palette, depth=depth, colour=colour, interlaced=interlaced))
    assert check_picture(path).fault is None
    with warnings.catch_warnings(action="ignore"):  # of few levels, in the smallest
        expected = read_picture(path, channels=3)
    np.testing.assert_array_equal(tf.io.decode_png(path.read_bytes(), channels=3), expected)
    path.write_bytes(png(rows[:-1], size=size, before=palette, depth=depth, colour=colour, interlaced=interlaced))
    assert check_picture(path).fault.startswith("truncated")


def test_a_jpeg_of_12_bits_is_said_to_be_one(tmp_path):
    content = bytearray(jpeg())
    content[content.index(b"\xff\xc0") + 4] = 12
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    assert check_picture(path).fault == "unsupported: a JPEG of 12 bits a channel; 8 can be read"
    assert verdicts(path) == [False] * 3


def deep_folder(root, high, low=0, count=4):
    """A folder of PNGs of 16 bits a channel with values of `low` to `high`."""
    generator = np.random.default_rng(0)
    for number in range(count):
        (root / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        values = generator.integers(low, high, (40, 60), np.uint16, endpoint=True)
        Image.fromarray(values).save(root / "ab"[number % 2] / f"{number}.png")
    return root


TRAIN = """
train digits --data.source folder --data.image-size 12 12 --data.batch-size 4 --data.cache off --log.tensorboard False
--model.name dense-mnist --model.options.features 4 --phases.0.epochs 1 --checkpoint.monitor None
""".split()  # noqa: SIM905


@fault(
    "12 bits or fewer stored in 16",
    happens="refused: `train` and `check` say how few of 256 levels are left; `predict` warns",
)
@pytest.mark.parametrize(("low", "high"), [(0, 255), (0, 1023), (0, 4095), (29000, 31000)])
def test_16_bits_of_which_nearly_nothing_is_left_are_refused(low, high, tmp_path):
    root = deep_folder(tmp_path / "data", high, low)
    files = [str(file) for file in root.rglob("*.png")]
    few = f"{low // 256} to {high // 256} of 255, from stored values of {low // 256 * 256} to"
    with pytest.raises(DataError, match=f"{root}.*{few}"):
        read_marks(files)
    assert few in check_data(root).problems[0]
    with pytest.warns(UserWarning, match="an image of 16 bits a channel is read by its upper 8 bits"):
        read_picture(files[0])
    for file in files:  # as the message advises
        values = np.asarray(Image.open(file)).astype(np.float32)
        Image.fromarray(((values - low) * 65535 / (high - low)).astype(np.uint16)).save(file)
    assert check_data(root).ok
    read_marks(files)


@pytest.mark.usefixtures("kept_programs")
def test_training_on_12_bits_of_16_leaves_nothing(tmp_path, capsys):
    root = deep_folder(tmp_path / "data", 4095)
    assert main([*TRAIN, "--data.path", str(root), "--run-dir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.count("error: ") == 1
    assert f"{root} (4 of 4 images, such as " in error
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


def test_predict_warns_of_16_bits_of_which_nearly_nothing_is_left(tmp_path):
    root = deep_folder(tmp_path / "data", 4095)
    run = finished_run(tmp_path / "model", "classification")
    with pytest.warns(UserWarning, match="0.png: an image of 16 bits"):
        assert main(["predict", str(run), str(root / "a" / "0.png")]) == 0


def test_sound_images_of_16_and_8_bits_are_passed_without_a_word(tmp_path, recwarn):
    root = deep_folder(tmp_path / "deep", 65535)
    Image.fromarray(np.zeros((40, 60), np.uint16)).save(root / "a" / "black.png")  # one of several
    broken.good(root / "a" / "other.jpg")
    marks = read_marks([str(file) for file in root.rglob("*.*")])
    assert marks is None
    assert not recwarn.list
    report = check_data(root)
    assert report.ok
    assert not report.remarks


def test_few_levels_are_warned_of(tmp_path):
    deep = deep_folder(tmp_path / "deep", 9000)
    with pytest.warns(UserWarning, match="nearly all of those lie in 0 to 35 of 255: detail is lost"):
        read_marks([str(file) for file in deep.rglob("*.*")])
    assert "detail is lost" in check_data(deep).remarks[0]
    flat = tmp_path / "flat"
    for number in range(4):
        (flat / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        labels = np.random.default_rng(number).integers(0, 2, (40, 60), np.uint8)
        Image.fromarray(labels).save(flat / "ab"[number % 2] / f"{number}.png")
    with pytest.warns(UserWarning, match="images use 0 to 1 of 0..255"):
        read_marks([str(file) for file in flat.rglob("*.*")])
    assert "images use 0 to 1 of 0..255" in check_data(flat).remarks[0]


@pytest.mark.slow
def test_the_odd_images_of_libraries_are_read_alike(shared_data, tmp_path):
    """354 files of image libraries' own tests: one verdict of check, predict and training, and Pillow's pixels."""
    folder = shared_data / "odd-pictures"
    if not folder.is_dir():
        pytest.skip(f"needs odd-pictures; {folder} is absent")
    compared = 0
    with warnings.catch_warnings(action="ignore"):
        for file in sorted(file for file in folder.rglob("*") if file.is_file() and file.name != "KINDS.tsv"):
            check = check_picture(file)
            ours = _or_none(lambda file=file: read_picture(file, channels=3))
            assert (ours is None) == (check.fault is not None and not check.fault.startswith("mislabelled")), file
            if ours is None:
                continue
            image = Image.open(file)
            if not image.mode.startswith("I;16"):
                np.testing.assert_array_equal(
                    ours, np.asarray(ImageOps.exif_transpose(image).convert("RGB")), str(file)
                )
            if image.format not in (*EXTENSIONS.values(), "MPO") or file.name == "bad_huffman.jpg":
                continue  # the latter is damaged, which neither decoder says
            header = picture_header(file)
            if header.for_pillow:
                continue
            mark = tf.constant(header.mark)
            trained = decode_file(str(file), ours.shape[:2], 3, "stretch", mark).numpy()
            limit = 21 if image.format in ("JPEG", "MPO") else 0
            assert np.abs(trained.astype(int) - ours).max() <= limit, file
            compared += 1
    assert compared > 60


def _or_none(read):
    try:
        return read()
    except DataError:
        return None
