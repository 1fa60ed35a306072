"""Ablations: what of a recipe its result comes from. *Deep Learning with Python* asks for them in chapter 9.

    jaxvision ablate digits-parts
    jaxvision ablate mnist-parts
    jaxvision ablate mnist-pooling
    jaxvision ablate dogs-vs-cats/augmentation-dropout
    jaxvision ablate dogs-vs-cats/width-depth
    jaxvision ablate dogs-vs-cats/depth-residual
    jaxvision ablate dogs-vs-cats/pooling
    jaxvision ablate dogs-vs-cats/xception-parts
    jaxvision ablate dogs-vs-cats/norm-order
    jaxvision ablate shapes-pooling
    jaxvision ablate pets/pooling

Data is where their runs have it: see the files beside this one. Any field of the base is a flag (--epochs 10,
--data.path DIR, --data.limit-train 500), --seeds is how often each arm is trained, --dry-run shows the arms.
"""

from dataclasses import replace

from jaxvision.ablation import Ablation, Factor
from jaxvision.config import Augment, Checkpoint, Data, Model, Optimizer, Phase, Schedule
from jaxvision.experiments import FOLDER, load_run

_DIGITS = load_run(f"{FOLDER}/digits.py:DIGITS")
_MNIST = load_run(f"{FOLDER}/mnist.py:MNIST")
_AUGMENTED = load_run(f"{FOLDER}/dogs_vs_cats.py:AUGMENTED")
_RESIDUAL = load_run(f"{FOLDER}/dogs_vs_cats.py:RESIDUAL")
_XCEPTION = load_run(f"{FOLDER}/dogs_vs_cats.py:XCEPTION")
_SHAPES = load_run(f"{FOLDER}/segmentation.py:SHAPES")
_PETS = load_run(f"{FOLDER}/segmentation.py:PETS_SEGMENT")

_AUGMENTATION = {"augment": Augment()}
_DROPOUT = {"model.options.dropout": 0.0}
_POOLING = Factor(
    {
        "max": {"model.options.downsample": "max"},
        "average": {"model.options.downsample": "average"},
        "stride": {"model.options.downsample": "stride"},
    }
)

DIGITS_PARTS = Ablation(
    base=replace(_DIGITS, name="digits-parts"),
    factors={"augmentation": _AUGMENTATION, "dropout": _DROPOUT, "cosine": {"phases.0.schedule": Schedule()}},
    design="leave-one-out",
)
"""The embedded digits without augmentation, without dropout, without the falling learning rate."""

MNIST_PARTS = Ablation(
    base=replace(
        _MNIST,
        name="mnist-parts",
        # Few examples, so that what helps against overfitting has something to do. The test part chooses nothing:
        # arms can be compared on the validation part.
        data=Data(
            source="tfds:mnist", batch_size=64, validation_fraction=1 / 6, limit_train=5000, limit_validation=5000
        ),
        augment=Augment(rotation=0.03, zoom=0.1, translation=0.08),
        model=Model("convnet-mnist", {"dropout": 0.3}),
        phases=(Phase(epochs=6, optimizer=Optimizer("adam", learning_rate=2e-3), schedule=Schedule("cosine")),),
        checkpoint=Checkpoint(monitor=None),
    ),
    factors={"augmentation": _AUGMENTATION, "dropout": _DROPOUT, "cosine": {"phases.0.schedule": Schedule()}},
    design="factorial",
)
"""What augmentation, dropout and a cosine schedule are worth on 5,000 MNIST digits, alone and together."""

MNIST_POOLING = Ablation(
    base=replace(_MNIST, name="mnist-pooling"), factors={"pooling": _POOLING}, design="one-at-a-time"
)
"""The book's MNIST convnet with max-pools, average-pools, strides in their place."""

AUGMENTATION_DROPOUT = Ablation(
    base=replace(_AUGMENTED, name="dogs-vs-cats/augmentation-dropout"),
    factors={"augmentation": _AUGMENTATION, "dropout": _DROPOUT},
    design="factorial",
)
"""What `dogs-vs-cats/augmented` owes to augmentation, to dropout, and to both together, chapter 8.2."""

WIDTH_DEPTH = Ablation(
    base=replace(_AUGMENTED, name="dogs-vs-cats/width-depth"),
    factors={
        "width": Factor(
            {
                "1x": {},
                "half": {"model.options.width_multiplier": 0.5},
                "2x": {"model.options.width_multiplier": 2.0},
            }
        ),
        "depth": Factor(
            {
                "5": {},
                "4": {"model.options.features": (32, 64, 128, 256)},
                "6": {"model.options.features": (32, 64, 128, 256, 256, 256)},
            }
        ),
    },
    design="grid",
)
"""More or fewer channels and convolutions, by which the book has readers bring the convnet to 0.90."""

DEPTH_RESIDUAL = Ablation(
    base=replace(_RESIDUAL, name="dogs-vs-cats/depth-residual"),
    factors={
        "residual": {"model.options.residual": False},
        "blocks": Factor(
            {
                "5": {},
                "3": {"model.options.features": (32, 64, 128)},
                "7": {"model.options.features": (32, 64, 128, 256, 256, 256, 256)},
            }
        ),
    },
    design="grid",
)
"""Whether the deeper network needs its shortcuts more, chapter 9.3.2."""

POOLING = Ablation(
    base=replace(_AUGMENTED, name="dogs-vs-cats/pooling"),
    factors={"pooling": _POOLING},
    design="one-at-a-time",
)
"""The augmented convnet with max-pools, average-pools, strides in their place."""

XCEPTION_PARTS = Ablation(
    base=replace(_XCEPTION, name="dogs-vs-cats/xception-parts"),
    factors={
        "residual": {"model.options.residual": False},
        "batch-norm": {"model.options.batch_norm": False},
        "separable": {"model.options.separable": False},
    },
    design="factorial",
)
"""The mini Xception without shortcuts, BatchNorm, separable convolutions, and without each two or three of them."""

NORM_ORDER = Ablation(
    base=replace(_XCEPTION, name="dogs-vs-cats/norm-order"),
    factors={
        "order": Factor(
            {
                "norm-act-conv": {"model.options.order": "norm-act-conv"},
                "conv-norm-act": {"model.options.order": "conv-norm-act"},
                "conv-act-norm": {"model.options.order": "conv-act-norm"},
            }
        )
    },
    design="one-at-a-time",
)
"""BatchNorm before the activation or after it, before the convolution or after it, in the mini Xception."""

_SEGMENTER_POOLING = Factor(
    {
        "stride": {"model.options.downsample": "stride"},
        "max": {"model.options.downsample": "max"},
        "average": {"model.options.downsample": "average"},
    }
)

SHAPES_POOLING = Ablation(
    base=replace(_SHAPES, name="shapes-pooling"),
    factors={"pooling": _SEGMENTER_POOLING, "dice": {"loss.dice": 0.0}},
    design="grid",
)
"""Strides against pools in the segmenter, which has to keep positions, with and without the Dice loss."""

PETS_POOLING = Ablation(
    base=replace(_PETS, name="pets/pooling"),
    factors={"pooling": _SEGMENTER_POOLING},
    design="one-at-a-time",
)
"""The book's segmenter with pools in place of its strides, chapter 9.2."""
