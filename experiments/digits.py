"""Handwritten digits, embedded: 1,797 real pictures, nothing to download.

    jaxvision train digits
"""

from jaxvision.config import Checkpoint, Data, Model, Phase, Run

DIGITS = Run(
    name="digits",
    data=Data(source="digits", batch_size=64),
    model=Model("convnet-mnist"),
    phases=(Phase(epochs=20),),
    checkpoint=Checkpoint(monitor="validation/loss"),
)
