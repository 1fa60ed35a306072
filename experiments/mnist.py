"""MNIST, chapter 8.1: the book's recipe, the same without pooling, and the best recipe of five epochs we know.

    jaxvision train mnist [--data.path DIR_OF_TFDS]
    jaxvision train mnist-no-pooling
    jaxvision train mnist-best
"""

from dataclasses import replace

from jaxvision.config import Augment, Checkpoint, Data, Model, Optimizer, Phase, Run, Schedule

# No validation: the book trains five epochs and tests what it has then. The test part chooses nothing.
MNIST = Run(
    name="mnist",
    data=Data(source="tfds:mnist", batch_size=64),
    model=Model("convnet-mnist"),
    phases=(Phase(epochs=5),),
    checkpoint=Checkpoint(monitor=None),
)

MNIST_NO_POOLING = replace(MNIST, name="mnist-no-pooling", model=Model("convnet-mnist-no-pooling"))

MNIST_BEST = replace(
    MNIST,
    name="mnist-best",
    augment=Augment(rotation=0.03, zoom=0.1, translation=0.08),
    model=Model("convnet-mnist", {"features": (32, 64, 128), "dropout": 0.3}),
    phases=(
        Phase(
            epochs=5,
            optimizer=Optimizer("adamw", learning_rate=3e-3, weight_decay=1e-2),
            schedule=Schedule("cosine", warmup_epochs=0.5),
        ),
    ),
    ema_decay=0.999,
)
