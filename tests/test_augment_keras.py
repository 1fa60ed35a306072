"""Given the same parameters, every augmentation gives what Keras' layer gives."""

import keras_reference
import numpy as np
import pytest

from jaxvision import augment

B, H, W, C, K = 6, 26, 37, 3, 4
SIZE = (H, W)


@pytest.fixture(scope="module")
def given() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:H, :W]
    ramps = np.stack([3.0 * x + 2.0 * y, 200 - 4.0 * x + 1.5 * y, 127 + 100 * np.sin(x / 9) * np.cos(y / 8)], axis=-1)
    return {
        "images": rng.integers(0, 256, (B, H, W, C), dtype=np.uint8),
        "masks": rng.integers(0, 3, (B, H, W), dtype=np.int32),
        "smooth": np.broadcast_to(ramps.astype(np.float32), (B, H, W, C)),
        "target": rng.dirichlet(np.ones(K), B).astype(np.float32),
        "mirrored": np.array([[0, 0], [0, 1], [1, 0], [1, 1], [0, 1], [1, 1]], bool),
        "turns": np.array([0.1, -0.07, 0.031, -0.1, 0.5, 0.22], np.float32),
        "zoom": np.array([0.8, 1.2, 0.93, 1.07, 1.6, 0.5], np.float32),
        "shift_share": np.array(
            [[0.1, -0.2], [0.03, 0.07], [-0.5, 0.9], [0, 0.11], [-0.02, 0], [0.2, 0.2]], np.float32
        ),
        "brightness": np.array([0.2, -0.2, 0.05, -0.9, 0.7, 0], np.float32),
        "contrast": np.array([0.5, 1.5, 0.9, 1.1, 0.0, 1.9], np.float32),
        "partner": np.array([3, 2, 5, 0, 4, 1], np.int32),
        "kept": rng.uniform(0, 1, B).astype(np.float32),
        "box": np.array([[0, 0, 5, 7], [3, 4, 3, 9], [10, 0, 26, 37], [0, 0, 26, 37], [25, 36, 26, 37], [4, 8, 20, 9]]),
    }


@pytest.fixture(scope="module")
def keras(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return keras_reference.run("augment", **given)


def test_flip_is_keras_flip_exactly(given, keras):
    images = augment.warp(given["images"], augment.flip_matrix(given["mirrored"], size=SIZE))
    np.testing.assert_array_equal(images, keras["flip"])


@pytest.mark.parametrize("name", ["rotation", "zoom", "translation"])
def test_warp_alone_is_the_keras_layer_with_its_borders(name, given, keras):
    matrices = {
        "rotation": augment.rotation_matrix(given["turns"], size=SIZE),
        "zoom": augment.zoom_matrix(given["zoom"], size=SIZE),
        "translation": augment.translation_matrix(given["shift_share"] * np.array([SIZE], np.float32)),
    }[name]
    np.testing.assert_allclose(augment.warp(given["images"], matrices), keras[name], atol=0.005)


def test_composed_warp_is_the_keras_layers_one_after_another_on_the_interior(given, keras):
    """Ramps survive repeated bilinear resampling, so they show the map itself; a wave bounds the blur Keras adds."""
    matrices = augment.chain(
        [
            augment.flip_matrix(given["mirrored"], size=SIZE),
            augment.rotation_matrix(given["turns"], size=SIZE),
            augment.zoom_matrix(given["zoom"], size=SIZE),
            augment.translation_matrix(given["shift_share"] * np.array([SIZE], np.float32)),
        ]
    )
    interior = keras["interior"] > 0.9999
    assert interior.mean() > 0.3
    difference = np.abs(augment.warp(given["smooth"], matrices) - keras["composed"])[interior]
    assert difference[:, :2].max() < 0.005
    assert difference[:, 2].max() < 1


def test_masks_move_by_the_nearest_rule_of_keras(given, keras):
    matrices = augment.rotation_matrix(given["turns"], size=SIZE)
    masks = np.asarray(augment.warp(given["masks"], matrices, interpolation="nearest"))
    assert masks.dtype == np.int32
    # Half a turn lands on pixel centres, others seldom on the edge between two, where rounding decides.
    assert (masks == keras["rotated_masks"]).mean() > 0.999


def test_brightness_and_contrast_are_keras(given, keras):
    brightness = augment.adjust_brightness(given["images"], given["brightness"] * np.float32(255))
    np.testing.assert_allclose(brightness, keras["brightness"], atol=1e-3)
    np.testing.assert_allclose(
        augment.adjust_contrast(given["images"], given["contrast"]), keras["contrast"], atol=1e-3
    )


def test_mixup_is_keras(given, keras):
    share = np.broadcast_to((1 - given["kept"])[:, None, None], (B, H, W))
    images, target = augment.mix(given["images"], given["target"], given["partner"], share)
    np.testing.assert_allclose(images, keras["mixup_images"], atol=1e-3)
    np.testing.assert_allclose(target, keras["mixup_target"], atol=1e-6)


def test_cutmix_is_keras(given, keras):
    share = augment.box_share(given["box"], size=SIZE)
    images, target = augment.mix(given["images"], given["target"], given["partner"], share)
    np.testing.assert_array_equal(images, keras["cutmix_images"])
    np.testing.assert_allclose(target, keras["cutmix_target"], atol=1e-6)
