"""Whole runs of the other tasks: a folder laid out as the Oxford-IIIT Pets, and a CSV of labels, to their results."""

from dataclasses import replace

import numpy as np
import pytest
from pets_layout import write_pets
from PIL import Image

from jaxvision.config import Augment, Checkpoint, Data, Log, Loss, Model, Optimizer, Phase, Run
from jaxvision.data import open_dataset
from jaxvision.data.pipeline import decode
from jaxvision.data.shapes import MASK_NAMES, draw_shapes
from jaxvision.errors import ConfigError
from jaxvision.train.evaluate import evaluate
from jaxvision.train.fit import fit
from jaxvision.train.folder import read_config, read_metrics
from jaxvision.train.predict import predict
from jaxvision.train.predict_masks import predict_masks
from jaxvision.train.result import read_result

pytestmark = pytest.mark.usefixtures("kept_programs")

SEGMENT = Run(
    name="pets",
    task="segmentation",
    data=Data(source="pets", image_size=(32, 40), batch_size=4),
    augment=Augment(flip="horizontal", rotation=0.05, brightness=0.1),
    model=Model("segmenter", {"features": (8,)}),
    phases=(Phase(epochs=2, optimizer=Optimizer("adam", 5e-3)),),
    loss=Loss(dice=0.5),
    checkpoint=Checkpoint("validation/mean_iou", "max"),
    log=Log(tensorboard=False),
)


@pytest.fixture(scope="module")
def pets_run(tmp_path_factory):
    root = tmp_path_factory.mktemp("pets")
    write_pets(root / "data", 21)
    run = replace(SEGMENT, data=replace(SEGMENT.data, path=str(root / "data")))
    with pytest.warns(UserWarning, match="Egyptian_Mau_139"):
        return fit(run, run_dir=root / "run", progress=False)


def test_a_folder_like_the_pets_trains_to_masks(pets_run):
    result = pets_run
    assert result.class_names == ("animal", "background", "contour")
    assert result.headline == "mean_iou"
    assert {"loss", "accuracy", "mean_iou", "dice"} <= set(result.validation)
    assert {f"iou/{name}" for name in result.class_names} <= set(result.validation)
    assert read_result(result.run_dir) == result
    records = read_metrics(result.run_dir)
    assert records[-1]["train/loss"] < records[0]["train/loss"]
    best = max(records, key=lambda record: record["validation/mean_iou"])
    assert (result.best_step, result.validation["mean_iou"]) == (
        best["step"],
        pytest.approx(best["validation/mean_iou"]),
    )


def test_evaluation_and_prediction_agree_on_the_best_checkpoint(pets_run, tmp_path):
    """mIoU over the validation part, whose last batch is padded, counted by hand from predicted masks."""
    with pytest.warns(UserWarning, match="Egyptian_Mau_139"):
        measured = evaluate(pets_run.run_dir, part="validation")
    assert measured == pytest.approx(pets_run.validation)
    with pytest.warns(UserWarning, match="Egyptian_Mau_139"):
        part = decode(open_dataset(read_config(pets_run.run_dir).data).validation)
    files = []
    for number, picture in enumerate(part.inputs):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
        files.append(tmp_path / f"{number}.png")
    predicted = np.stack([prediction.mask for prediction in predict_masks(pets_run.run_dir, files)])
    ious = []
    for label in range(3):
        one, other = predicted == label, part.target == label
        if (one | other).any():
            ious.append((one & other).sum() / (one | other).sum())
    assert np.mean(ious) == pytest.approx(measured["mean_iou"], abs=1e-3)


@pytest.mark.slow
def test_streamed_and_resident_masks_train_alike(tmp_path):
    pictures, _, masks = draw_shapes(0, 30, image_size=(32, 32))
    parts = {"train": (pictures, masks), "class_names": MASK_NAMES}
    run = replace(SEGMENT, data=Data(batch_size=8), checkpoint=Checkpoint(monitor=None))
    one = fit(run, run_dir=tmp_path / "a", data=parts, progress=False)
    streamed = replace(run, data=replace(run.data, residence="stream"))
    other = fit(streamed, run_dir=tmp_path / "b", data=parts, progress=False)
    assert read_metrics(one.run_dir) == read_metrics(other.run_dir)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": "classification"}, "set task to segmentation"),
        ({"model": Model("convnet-mnist", {"features": (4, 8)})}, "take segmenter or unet"),
        ({"augment": Augment(mixup=0.2)}, "this task has masks"),
        ({"data": replace(SEGMENT.data, image_size=(33, 40))}, "multiples of 2"),
        ({"checkpoint": Checkpoint("validation/iou/dog", "max")}, "There are.*validation/iou/animal"),
        ({"loss": Loss(class_weights=(1.0,))}, "each of the 3 classes"),
    ],
)
def test_what_does_not_fit_is_said_before_a_folder_is_made(tmp_path, change, said):
    write_pets(tmp_path / "data", 8, broken=False)
    run = replace(SEGMENT, **change)
    run = replace(run, data=replace(run.data, path=str(tmp_path / "data")))
    with pytest.raises(ConfigError, match=said):
        fit(run, run_dir=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_labels_of_a_csv_train_to_average_precision(tmp_path):
    """Two labels that can be seen, red above and blue below, each in half of the pictures, and one that is nowhere."""
    rng = np.random.default_rng(0)
    rows = ["file,red,blue,snow,part"]
    for number in range(60):
        red, blue = rng.integers(0, 2, 2)
        picture = rng.integers(0, 90, (12, 12, 3)).astype(np.uint8)
        picture[:6, :, 0] += 150 * red.astype(np.uint8)
        picture[6:, :, 2] += 150 * blue.astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{red},{blue},0,{'train' if number < 40 else 'validation'}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    run = Run(
        name="labels",
        task="multilabel",
        data=Data(source="csv", path=str(tmp_path / "labels.csv"), batch_size=8),
        model=Model("convnet-mnist", {"features": (8, 8)}),
        phases=(Phase(epochs=6, optimizer=Optimizer("adam", 1e-2)),),
        checkpoint=Checkpoint("validation/average_precision", "max"),
        log=Log(tensorboard=False),
    )
    with pytest.warns(UserWarning, match="No training example shows 1 of the 3 classes: 'snow'"):
        result = fit(run, run_dir=tmp_path / "run", progress=False)
    assert result.headline == "average_precision"
    assert result.validation["average_precision"] > 0.95
    assert result.validation["f1"] > 0.8
    assert "average_precision/snow" not in result.validation
    red_and_blue = np.full((12, 12, 3), 40, np.uint8)
    red_and_blue[:6, :, 0] = red_and_blue[6:, :, 2] = 200
    Image.fromarray(red_and_blue).save(tmp_path / "both.png")
    probabilities = dict(predict(result.run_dir, tmp_path / "both.png")[0].classes)
    assert min(probabilities["red"], probabilities["blue"]) > 0.5, "labels do not compete"
    assert probabilities["snow"] < 0.5
