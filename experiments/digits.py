"""Handwritten digits, embedded in the package: 1,797 real pictures, nothing to download.

jaxvision train digits
"""

from jaxvision.config import Augment, Data, Model, Optimizer, Phase, Run, Schedule

DIGITS = Run(
    name="digits",
    data=Data(source="digits", batch_size=64),
    augment=Augment(rotation=0.03, zoom=0.1, translation=0.05),
    model=Model("convnet-mnist", {"dropout": 0.3}),
    phases=(Phase(epochs=30, optimizer=Optimizer("adam", learning_rate=2e-3), schedule=Schedule("cosine")),),
)
"""A convnet on the embedded digits: trains, tests and draws its curves in a minute.

measured: test accuracy 0.9800 (1 seed, 30 epochs, 31 s, 2-core Intel Xeon)
"""
