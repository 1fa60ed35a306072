"""What `jaxvision bench` measures beside peers: ceilings, convolutions, decoding; and its messages."""

import json
import statistics
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from jaxvision.bench import ceiling, convolutions, decoding
from jaxvision.bench.cases import CASES
from jaxvision.bench.convolutions import Shape
from jaxvision.cli import main


def test_operations_are_those_of_the_model():
    # Multiplications of the three convolutions and the dense layer; the first needs no gradient of its input.
    forward = [26 * 26 * 32 * 9, 11 * 11 * 64 * 9 * 32, 3 * 3 * 128 * 9 * 64, 1152 * 10]
    expected = 2 * (3 * sum(forward) - forward[0])
    assert ceiling.flops_per_picture(CASES["mnist"]) == pytest.approx(expected, rel=0.05)
    augmented, plain = (replace(case, image_shape=(92, 92, 3), batch_size=2) for case in
                        (CASES["dogs-vs-cats-augmented"], CASES["dogs-vs-cats"]))  # fmt: skip
    assert ceiling.flops_per_picture(augmented) == pytest.approx(ceiling.flops_per_picture(plain), rel=0.01)


def test_frozen_layers_cost_their_forward_pass_only():
    # Multiplications of VGG16's convolutions on pictures of 32x32, those with the padding's zeros left out as XLA does.
    blocks, size, channels = [], 32, 3
    for count, width in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        inputs = [channels, *[width] * (count - 1)]
        blocks.append([(3 * size - 2) ** 2 * channels * width for channels in inputs])
        size, channels = size // 2, width
    finetune, features = (
        ceiling.flops_per_picture(replace(CASES[name], image_shape=(32, 32, 3), batch_size=256))
        for name in ("vgg16-finetune", "vgg16-features")
    )
    assert features == pytest.approx(2 * sum(map(sum, blocks)), rel=0.02)
    # Gradients of block5's three kernels, of the inputs of two, and three products of the head.
    trained = sum(blocks[4]) + sum(blocks[4][1:]) + 3 * 512 * 256
    assert finetune - features == pytest.approx(2 * trained, rel=0.05)


def test_ceiling_relates_steps_to_a_matrix_product(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ceiling, "SECONDS", 0.01)
    out = tmp_path / "c.json"
    assert main(["bench", "ceiling", "mnist", "--repeats", "2", "--seconds", "0.05", "--out", str(out)]) == 0
    document = json.loads(out.read_text())
    (step,) = document["steps"]
    assert step["images_per_second"] == statistics.median(step["turns"])
    achieved = step["flops_per_picture"] * step["images_per_second"]
    assert step["share"] == pytest.approx(achieved / document["matmul"]["float32"]["flops_per_second"])
    assert document["copy_bytes_per_second"] > 1e8
    assert f"{step['share']:.1%}" in capsys.readouterr().out


@pytest.mark.slow
def test_input_decodes_beside_tf_data(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(5):
            picture = rng.integers(0, 256, (12, 10, 3), np.uint8)
            Image.fromarray(picture).save(tmp_path / "set" / name / f"{number}.png")
    out = tmp_path / "i.json"
    options = ["--image-size", "8", "6", "--batch-size", "4", "--repeats", "2", "--seconds", "0.05"]
    assert main(["bench", "input", str(tmp_path / "set"), *options, "--out", str(out)]) == 0
    document = json.loads(out.read_text())
    assert document["pictures"] == 10
    assert list(document["readers"]) == list(decoding.READERS)
    for reader in document["readers"].values():
        assert len(reader["turns"]) == 2
        assert reader["pictures_per_second"]["min"] > 10
    ours, bare = (document["readers"][name]["pictures_per_second"]["median"] for name in ("jaxvision", "tf.data"))
    assert document["readers"]["tf.data"]["ratio"] == pytest.approx(ours / bare)
    assert f"{ours / bare:.2f} x" in capsys.readouterr().out
    assert main(["bench", "input", str(tmp_path / "gone")]) == 2
    assert "gone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], ["say what to measure"]),
        (["pears"], ["Did you mean 'peers'", "Received: 'pears'"]),
        (["peers", "mnits"], ["Did you mean 'mnist'", "Received: 'mnits'"]),
        (["ceiling", "mnits"], ["Did you mean 'mnist'"]),
        (["peers", "mnist", "--peers", "torch-eagre"], ["Did you mean 'torch-eager'"]),
        (["peers", "--repeats", "0"], ["--repeats", "Received: 0"]),
        (["peers", "--threads", "100000"], ["--threads", "Received: 100000"]),
        (["peers", "--out", "no/where.json"], ["--out", "no/where.json"]),
        (["peers", "--out", "table.csv"], ["--out", ".json"]),
        (["input"], ["name a folder"]),
    ],
)
def test_wrong_arguments_give_one_message(argv, said, capsys):
    assert main(["bench", *argv]) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in said), error


def test_conv_times_every_candidate_and_marks_the_one_in_use(monkeypatch, capsys, tmp_path):
    shapes = (Shape("plain", 2, 9, 8, 4), Shape("depthwise", 2, 9, 8, 8, padded=True, stride=2, groups=8))
    monkeypatch.setattr(convolutions, "SHAPES", shapes)
    out = tmp_path / "conv.json"
    assert main(["bench", "conv", "--repeats", "1", "--out", str(out)]) == 0
    plain, depthwise = json.loads(out.read_text())["shapes"]
    assert plain["flops"] == 2 * 2 * 7 * 7 * 9 * 8 * 4
    assert depthwise["flops"] == 2 * 2 * 5 * 5 * 9 * 8
    for entry in (plain, depthwise):
        for timing in entry["timings"]:
            assert "compiler" in timing["seconds"]
            assert timing["seconds"][timing["used"]] > 0
    assert "rows" in plain["timings"][2]["seconds"]
    assert "rows" not in depthwise["timings"][2]["seconds"]
    assert capsys.readouterr().out.count("*") == 3 + 6  # in the titles, and at what is used
