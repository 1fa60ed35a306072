"""What numbers in labels and masks mean, and what training gets to see of each class: `train` and `check` alike."""

import json
import re
import warnings

import numpy as np
import pytest
from PIL import Image, ImageDraw
from predicted_runs import finished_run

from jaxvision import config
from jaxvision.cli import main
from jaxvision.config import Data, Run
from jaxvision.data import MaskRule, open_dataset, open_feed
from jaxvision.data.check import check_data
from jaxvision.data.mask_stream import mask_decoder
from jaxvision.data.shown import require_shown
from jaxvision.errors import ConfigError, DataError, UserError
from jaxvision.serialize import check
from jaxvision.train.evaluate import evaluate
from jaxvision.train.folder import read_config

COUNT = 60
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (COUNT, 8, 8, 1), dtype=np.uint8)
NUMBERS = np.arange(COUNT)
LABELS = NUMBERS % 3
MASKS = RNG.integers(0, 2, (COUNT, 8, 8))


def judged(target, *, parts=None, **settings):
    """Opens and judges given arrays; what it warns of."""
    data = config.Data(**{"batch_size": 4} | settings)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        require_shown(open_dataset(data, given={"train": (IMAGES, target)} | (parts or {})), data)
    return [str(warning.message) for warning in caught]


def circles(root, change=lambda mask: mask, count=COUNT):
    """A folder of images and masks: a bright disc on a dark ground, 255 on 0, then changed."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(count):
        mask = Image.new("L", (32, 32))
        left, top = RNG.integers(2, 12, 2).tolist()
        ImageDraw.Draw(mask).ellipse((left, top, left + 16, top + 14), fill=255)
        image = np.asarray(mask)[..., None] // 2 + RNG.integers(0, 90, (32, 32, 3))
        Image.fromarray(image.astype(np.uint8)).save(root / "images" / f"{number}.png")
        Image.fromarray(np.asarray(change(mask)).astype(np.uint8)).save(root / "masks" / f"{number}.png")
    return root


def soft(mask):
    return mask.resize((14, 14), Image.Resampling.BILINEAR).resize((32, 32), Image.Resampling.BILINEAR)


@pytest.mark.parametrize(
    ("message", "target", "settings"),
    [
        (r"Counted from 0 up to 3, .* 4 classes, 1 of them .*Set data.label_offset to 1,", LABELS + 1, {}),
        (r"31 classes, 28 of them .*Set data.label_values to 10 20 30,.*: labels of 10, 20, 30", LABELS * 10 + 10, {}),
        (r"256 classes, 253 of them .*Received: labels of 0, 1, 255", (LABELS - 1).astype(np.uint8), {}),
        ("up to the largest label, and it must be below 1,000,000. Received: 2000000000", LABELS * 10**9, {}),
        ("All training labels are of one class, 'a', .*Received: 60 examples", LABELS * 0, {"class_names": ("a", "b")}),
        ("The training labels are 0 for all 3 classes", np.zeros((COUNT, 3)), {}),
        ("no class but 'a': all other pixels, .*%, are 255, .* to 0 255", MASKS * 255, {"class_names": ("a", "b")}),
        (r"at least two classes. If 255, which is ignored, is one, set data.mask_values", MASKS * 255, {}),
        (r"128 classes, 126 of them .*Set data.mask_values to 0 127, .*masks of 0, 127", MASKS * 127, {}),
        ("no class but 'a', so there is nothing to learn.*all 0", MASKS * 0, {"class_names": ("a", "b")}),
        ("train part: no pixel of its masks counts", MASKS * 0 + 255, {"class_names": ("a", "b")}),
        (r"example 2: labels must be one of data.label_values \(10, 20\). Received: 30", LABELS * 10 + 10,
         {"label_values": (10, 20)}),
        ("example 0: labels must be 1 or more, as data.label_offset says. Received: 0", LABELS, {"label_offset": 1}),
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_meant_are_refused(message, target, settings):
    with pytest.raises(DataError, match=message) as caught:
        judged(target, **settings)
    assert "Received: " in str(caught.value)


def test_a_part_without_a_pixel_that_counts_is_refused_before_training():
    with pytest.raises(DataError, match="validation part: no pixel of its masks counts"):
        judged(MASKS, parts={"validation": (IMAGES, MASKS * 0 + 255)})


@pytest.mark.parametrize(
    ("message", "target", "settings"),
    [
        ("No training example shows 1 of the 4 classes: 'd'", LABELS, {"class_names": tuple("abcd")}),
        ("No training example shows 1 of the 4 classes: '2'.*label_values", np.where(LABELS == 2, 3, LABELS), {}),
        ("Set data.label_offset to 1", LABELS + 1, {"limit_train": 30}),  # a limit may have taken a class away
        ("Every training example has the class '1'", np.eye(3)[LABELS] * [1, 0, 1] + [0, 1, 0], {}),
        ("No training example shows 1 of the 3 classes: '2'", np.eye(3)[LABELS] * [1, 1, 0], {}),
        ("% of the pixels in the training masks are ignored", np.where(RNG.random(MASKS.shape) < 0.7, 255, MASKS), {}),
    ],
)  # fmt: skip
def test_what_may_be_meant_is_a_warning(message, target, settings):
    (told,) = judged(target, **settings)
    assert re.search(message, told), told


def test_other_parts_are_compared_with_the_training_part():
    more = {"validation": (IMAGES, NUMBERS % 4)}
    (told,) = judged(LABELS, parts=more, class_names=tuple("abcd"))
    assert "The validation part shows what was not trained" in told
    (told,) = judged(LABELS, parts={"test": (IMAGES, LABELS * 0)})
    assert told.startswith("The test part shows no class but '0'")


def test_what_is_valid_is_not_warned_of():
    assert judged(LABELS) == []
    assert judged(LABELS, limit_train=4, batch_size=2) == []  # a trial of two steps, as of --smoke
    assert judged(np.r_[0, NUMBERS[1:] % 2 + 1], class_names=("a", "b", "c"), validation_fraction=0.1) == []
    assert judged(np.eye(3)[LABELS]) == []
    assert judged(MASKS) == judged(MASKS > 0) == []
    many = RNG.integers(0, 30, (COUNT, 8, 8))  # many classes in each mask, none of them rare
    assert judged(many) == []
    nested = np.minimum(NUMBERS[:, None, None] % 3 + 1, RNG.integers(0, 4, (COUNT, 8, 8)))
    assert judged(nested) == []


def test_labels_mean_what_is_said(tmp_path):
    for target, settings, names in (
        (LABELS + 1, {"label_offset": 1}, ("0", "1", "2")),
        (LABELS * 10 + 10, {"label_values": (10, 20, 30)}, ("10", "20", "30")),
        (-LABELS * 10**12, {"label_values": (0, -(10**12), -2 * 10**12), "class_names": tuple("abc")}, tuple("abc")),
    ):
        data = config.Data(batch_size=4, **settings)
        dataset = open_dataset(data, given={"train": (IMAGES, target)})
        assert dataset.class_names == names
        np.testing.assert_array_equal(dataset.train.target, LABELS)
        np.savez(tmp_path / "a.npz", x_train=IMAGES, y_train=target)
        stored = open_dataset(config.Data("npz", str(tmp_path / "a.npz"), batch_size=4, **settings))
        np.testing.assert_array_equal(stored.train.target, LABELS)


@pytest.mark.parametrize("residence", ["auto", "stream"])
@pytest.mark.parametrize("settings", [{"label_offset": 10}, {"label_values": (10, 11, 12)}])
def test_labels_of_a_users_dataset_mean_what_is_said(residence, settings):
    tf = pytest.importorskip("tensorflow")

    def opened(target):
        given = {"train": tf.data.Dataset.from_tensor_slices((IMAGES, target)).batch(7)}
        return open_dataset(config.Data(residence=residence, **settings), given=given).train

    part = opened(LABELS + 10)
    np.testing.assert_array_equal(part.target, LABELS)
    batches = open_feed(part, batch_size=60, seed=None, residence=residence, resident_mb=9).batches(0)
    np.testing.assert_array_equal(np.asarray(next(iter(batches)).target), LABELS)
    with pytest.raises(DataError, match=r"a label does not fit data\.label_"):
        opened(LABELS + 9)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_masks_mean_what_is_said(dtype):
    stored = np.array([[0, 100], [200, 255]], dtype)
    assert MaskRule(3, values=(0, 200, 100), ignore_label=255).class_numbers(stored).tolist() == [[0, 2], [1, 255]]
    assert MaskRule(3, thresholds=(100, 201)).class_numbers(stored).tolist() == [[0, 1], [1, 2]]
    assert MaskRule(2, thresholds=(128,), ignore_label=0).class_numbers(stored).tolist() == [[255, 0], [1, 1]]
    with pytest.raises(
        DataError, match=r"must hold 0, 255. Received: 100 .*, 200 .*\(0 100 200 255 here\); data.mask_thr"
    ):
        MaskRule(2, values=(0, 255)).class_numbers(stored)
    with pytest.raises(DataError, match=r"grey levels.*data\.mask_thresholds cuts them.*100 would be the middle"):
        MaskRule(2).class_numbers(np.arange(200, dtype=dtype).reshape(1, -1))


def test_a_rule_of_old_runs_is_the_same_in_fingerprints_and_caches():
    assert str(MaskRule(3, 1, 255)) == "MaskRule(num_classes=3, label_offset=1, ignore_label=255)"
    assert len({str(rule) for rule in (MaskRule(2), MaskRule(2, values=(0, 9)), MaskRule(2, thresholds=(9,)))}) == 3


@pytest.mark.parametrize(
    ("message", "settings"),
    [
        ("data.mask_values: data.label_offset is set too", {"mask_values": (0, 255), "label_offset": 1}),
        ("data.mask_values: needs two or more different numbers", {"mask_values": (0, 0)}),
        ("data.mask_values: needs 3 numbers, one for each", {"mask_values": (0, 255), "class_names": tuple("abc")}),
        ("data.mask_thresholds: must rise", {"mask_thresholds": (9, 9)}),
        ("data.mask_thresholds: needs 2 numbers for the 3", {"mask_thresholds": (9,), "class_names": tuple("abc")}),
        ("data.ignore_label: is a class in data.mask_values", {"mask_values": (0, 255), "ignore_label": 255}),
    ],
)
def test_fields_that_contradict_each_other_are_refused(message, settings):
    with pytest.raises(ConfigError, match=message):
        check(Run(data=Data(**settings)))


@pytest.mark.parametrize(
    ("message", "target", "settings"),
    [
        ("data.label_values is for labels, and these data have masks", MASKS, {"label_values": (0, 1)}),
        ("data.mask_values is for masks", LABELS, {"mask_values": (0, 1)}),
        ("data.label_offset is for arrays of class numbers", np.eye(3)[LABELS], {"label_offset": 1}),
    ],
)
def test_fields_for_other_data_are_refused(message, target, settings):
    with pytest.raises(UserError, match=message):
        judged(target, **settings)
    with pytest.raises(ConfigError, match=r"data\.label_offset is for arrays of class numbers"):
        open_dataset(config.Data("digits", label_offset=1))


@pytest.mark.parametrize(
    ("change", "message", "settings"),
    [
        (np.asarray, "show no class but 'ground'.*set data.mask_values to 0 255 and leave",
         {"ignore_label": 255, "class_names": ("ground", "disc")}),
        (soft, "different numbers, and nothing names so many.*data.mask_thresholds", {"ignore_label": 255}),
    ],
)  # fmt: skip
def test_check_says_what_train_says(change, message, settings, tmp_path):
    root = circles(tmp_path / "data", change)
    data = config.Data("masks", str(root), cache="off", **settings)
    with pytest.raises(DataError, match=message) as refused:
        require_shown(open_dataset(data), data)
    assert str(refused.value) in check_data(root, **settings).problems


def test_instance_numbers_are_noticed_and_can_be_one_class(tmp_path):
    def objects(mask):
        found = (np.asarray(mask) > 0) * 1
        count = int(RNG.integers(1, 6))
        return found * (1 + np.arange(32) % count)

    root = circles(tmp_path / "data", objects)
    data = config.Data("masks", str(root), cache="off")
    with pytest.warns(UserWarning, match="as instance masks do.*data.mask_thresholds to 1"):
        require_shown(open_dataset(data), data)
    assert any("as instance masks do" in remark for remark in check_data(root).remarks)
    one = open_dataset(config.Data("masks", str(root), cache="off", mask_thresholds=(1,)))
    assert set(np.unique(one.train.target)) == {0, 1}
    assert not any("instance" in remark for remark in check_data(root, mask_thresholds=(1,)).remarks)


@pytest.mark.usefixtures("kept_programs")
def test_masks_of_0_and_255_are_two_classes_once_that_is_said(tmp_path, capsys):
    """With the README's own flags every disc is ignored. Following the message, all commands take 255 for a class."""
    root = circles(tmp_path / "data")
    train = [
        *("train", "shapes", "--data.source", "masks", "--data.path", str(root), "--data.image-size", "32", "32"),
        *("--data.class-names", "ground", "disc", "--data.ignore-label", "255", "--data.validation-fraction", "0.2"),
    ]
    assert main([*train, "--run-dir", str(tmp_path / "run")]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "set data.mask_values to 0 255 and leave data.ignore_label out" in told
    assert not (tmp_path / "run").exists()
    settings = {"class_names": ("ground", "disc"), "mask_values": (0, 255)}
    data = config.Data("masks", str(root), cache="off", validation_fraction=0.2, **settings)
    require_shown(open_dataset(data), data)
    assert check_data(root, **settings).ok
    run = finished_run(
        tmp_path / "run", "segmentation", names=("ground", "disc"), image_size=(32, 32), mask_values=(0, 255)
    )
    assert read_config(run).data.mask_values == (0, 255)
    image, mask = root / "images" / "3.png", np.asarray(Image.open(root / "masks" / "3.png"))
    assert main(["predict", str(run), str(image), "--out", str(tmp_path / "out"), "--json"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    written = np.asarray(Image.open(document["mask"]))
    assert set(np.unique(written)) == {0, 255}
    assert (written == mask).mean() > 0.9
    measured = evaluate(run, data=(np.asarray(Image.open(image))[None], mask[None]))
    assert measured["accuracy"] == pytest.approx((written == mask).mean())
    assert {"iou/ground", "iou/disc"} <= measured.keys()


@pytest.mark.parametrize(
    "rule",
    [MaskRule(3, values=(0, 200, 100), ignore_label=255), MaskRule(3, thresholds=(100, 201)), MaskRule(255, 0, 7)],
)
def test_tensorflow_reads_masks_by_the_same_rule(rule):
    tf = pytest.importorskip("tensorflow")
    stored = np.array([[0, 100, 200, 0], [100, 100, 200, 0]], np.uint8)
    decode = mask_decoder(lambda mask: mask, rule, lambda mask: mask, stored.shape)
    (decoded,) = tf.data.Dataset.from_tensors(stored).map(decode).as_numpy_iterator()
    np.testing.assert_array_equal(decoded, rule.class_numbers(stored))
    unknown = MaskRule(2, values=(0, 100))
    decode = mask_decoder(lambda mask: mask, unknown, lambda mask: mask, stored.shape)
    with pytest.raises(tf.errors.InvalidArgumentError, match="not 0, 100"):
        list(tf.data.Dataset.from_tensors(stored).map(decode))
