"""Dogs against cats from a thousand pictures of each, chapters 8.2, 8.3 and 9.3 of the book.

    jaxvision prepare dogs-vs-cats DOWNLOADED --to data/cats_vs_dogs_small
    jaxvision train dogs-vs-cats/scratch
    jaxvision train dogs-vs-cats/augmented
    jaxvision train dogs-vs-cats/residual
    jaxvision train dogs-vs-cats/xception
    jaxvision train dogs-vs-cats/features
    jaxvision train dogs-vs-cats/frozen
    jaxvision train dogs-vs-cats/finetune

DOWNLOADED is Kaggle's train.zip or its folder of cat.0.jpg, dog.0.jpg, ... VGG16's weights are fetched when first used;
`--model.weights FILE` takes a file at hand.
"""

from dataclasses import replace

from jaxvision.config import Augment, Data, Model, Optimizer, Phase, Run

SCRATCH = Run(
    name="dogs-vs-cats/scratch",
    data=Data(source="folder", path="data/cats_vs_dogs_small", image_size=(180, 180), batch_size=32),
    model=Model("convnet-dogs-vs-cats"),
    phases=(Phase(epochs=30),),
)
"""A convnet from scratch: it overfits from about epoch ten on.

measured: validation accuracy 0.7340, highest 0.7480 (1 seed, 30 epochs, 61 min, 2-core Intel Xeon, other work on the
machine, 35 img/s when alone)
"""

AUGMENTED = replace(
    SCRATCH,
    name="dogs-vs-cats/augmented",
    augment=Augment(flip="horizontal", rotation=0.1, zoom=0.2),
    model=Model("convnet-dogs-vs-cats", {"dropout": 0.5}),
    phases=(Phase(epochs=100),),
)
"""The same with flips, rotations, zooms and dropout: it goes on learning where `scratch` overfits.

measured: validation accuracy 0.7930, highest 0.7930 (1 seed, 30 epochs, 36 min, 2-core Intel Xeon, other work on the
machine; 51 img/s when alone)
"""

RESIDUAL = replace(
    AUGMENTED,
    name="dogs-vs-cats/residual",
    model=Model("residual-convnet", {"features": (32, 64, 128, 256, 256), "dropout": 0.5}),
)
"""Residual blocks of the augmented convnet's widths in place of its convolutions, chapter 9.3.2."""

XCEPTION = replace(AUGMENTED, name="dogs-vs-cats/xception", model=Model("mini-xception"))
"""The book's mini Xception: residual blocks of separable convolutions with BatchNorm, chapter 9.3.5. In the first
epochs validation lags behind: moving averages with a momentum of 0.99 follow the weights a hundred steps late. After
ten, training accuracy (with dropout) was 0.735 and still rising, validation had just left one half.

measured: validation accuracy 0.5000, highest 0.5620 (1 seed, 10 epochs, 69 min, 2-core Intel Xeon, other work on the
machine)
"""

FEATURES = replace(
    SCRATCH,
    name="dogs-vs-cats/features",
    model=Model(
        "vgg16",
        {"top": "flatten", "hidden": (256,), "dropout": 0.5},
        weights="imagenet",
        reinit_head=True,
    ),
    phases=(Phase(epochs=20, trainable=("head",)),),
    cache_features="all",
)
"""VGG16's features of the pictures, computed once, and a dense head trained on them.

measured: validation accuracy 0.9737 +- 0.0015, highest 0.9783 (3 seeds, 20 epochs, 2 min each, 2-core Intel Xeon, the
first of them computed the features, 5 min; an epoch of the head takes 0.4 to 1 s)
"""

FROZEN = replace(
    FEATURES,
    name="dogs-vs-cats/frozen",
    augment=AUGMENTED.augment,
    phases=(Phase(epochs=50, trainable=("head",)),),
    cache_features="evaluation",
)
"""The same head on the frozen base, on augmented pictures: each one goes through the base anew.

measured: validation accuracy 0.9770, highest 0.9800 (1 seed, 10 epochs, 40 min, 2-core Intel Xeon, bfloat16; other
work on the machine, 33 img/s when alone)
"""

FINETUNE = replace(
    FROZEN,
    name="dogs-vs-cats/finetune",
    phases=(
        *FROZEN.phases,
        Phase(epochs=30, optimizer=Optimizer(learning_rate=1e-5), trainable=("head", "base[-4:]")),
    ),
    cache_features="off",
)
"""`frozen`, and then VGG16's last four layers trained too, slowly.

measured: validation accuracy 0.9750, highest 0.9790 (1 seed, 13 epochs, 23 min, 2-core Intel Xeon, bfloat16; 5 epochs
frozen and 8 fine-tuned, other work on the machine)
"""
