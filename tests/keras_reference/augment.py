"""Keras' augmentation layers for given parameters. A range (v, v) makes a layer draw v."""

import sys

import keras
import numpy as np

given = dict(np.load(sys.argv[1]))
images, masks, target = (given[name].astype("float32") for name in ("images", "masks", "target"))


def each(batch, layer_of):
    """Every picture through a layer of its own."""
    return np.concatenate([layer_of(i)(batch[i : i + 1], training=True) for i in range(len(batch))])


def flipped(batch):
    """Each axis told apart, as two layers."""
    for column, mode in ((0, "vertical"), (1, "horizontal")):
        parameters = {"flips": given["mirrored"][:, column, None, None, None]}
        batch = keras.layers.RandomFlip(mode).transform_images(batch, parameters)
    return np.asarray(batch)


def rotation(**options):
    return lambda i: keras.layers.RandomRotation((given["turns"][i],) * 2, **options)


def zoom(**options):
    return lambda i: keras.layers.RandomZoom((given["zoom"][i] - 1,) * 2, **options)


def translation(**options):
    def layer_of(i):
        down, right = given["shift_share"][i]
        return keras.layers.RandomTranslation((down, down), (right, right), **options)

    return layer_of


def composed(batch, **options):
    batch = each(each(flipped(batch), rotation(**options)), zoom(**options))
    return each(batch, translation(**options))


answer = {
    "flip": flipped(images),
    "rotation": each(images, rotation()),
    "zoom": each(images, zoom()),
    "translation": each(images, translation()),
    "rotated_masks": each(masks[..., None], rotation(interpolation="nearest"))[..., 0],
    "composed": composed(given["smooth"].astype("float32")),
    "interior": composed(np.ones_like(images[..., :1]), fill_mode="constant")[..., 0],
    "brightness": each(images, lambda i: keras.layers.RandomBrightness((given["brightness"][i],) * 2)),
    "contrast": keras.layers.RandomContrast(0.5).transform_images(
        images, {"contrast_factor": given["contrast"][:, None, None, None]}
    ),
}

mixup, parameters = keras.layers.MixUp(), {"mix_weight": given["kept"], "permutation_order": given["partner"]}
answer["mixup_images"] = mixup.transform_images(images, parameters)
answer["mixup_target"] = mixup.transform_labels(target, parameters)

cutmix = keras.layers.CutMix()
top, left, bottom, right = given["box"].astype("float32").T
inside, weight = cutmix._generate_batch_mask(images.shape, (left, right, top, bottom))
parameters = {"batch_masks": inside, "mix_weight": weight, "permutation_order": given["partner"]}
answer["cutmix_images"] = cutmix.transform_images(images, parameters)
answer["cutmix_target"] = cutmix.transform_labels(target, parameters)

np.savez(sys.argv[2], **{name: np.asarray(value) for name, value in answer.items()})
