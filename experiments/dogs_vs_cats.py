"""Dogs against cats from a thousand pictures of each, chapter 8.2 of the book.

    jaxvision prepare dogs-vs-cats DOWNLOADED --to data/cats_vs_dogs_small
    jaxvision train dogs-vs-cats/scratch
    jaxvision train dogs-vs-cats/augmented

DOWNLOADED is Kaggle's train.zip or its folder of cat.0.jpg, dog.0.jpg, ...
"""

from dataclasses import replace

from jaxvision.config import Augment, Data, Model, Phase, Run

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
