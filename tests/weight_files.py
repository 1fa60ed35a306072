"""Files of weights for tests, and what a model holds."""

import h5py
import numpy as np
from flax import nnx

from jaxvision.models import create_model
from jaxvision.weights import export_keras, export_safetensors
from jaxvision.weights.names import model_layers


def mnist(seed=0, outputs=10, **options) -> nnx.Module:
    """The small convnet of MNIST."""
    return create_model("convnet-mnist", (28, 28, 1), outputs, seed=seed, **options)


def values(model) -> dict[str, np.ndarray]:
    """Every tensor of the model by its path."""
    return {"/".join(map(str, path)): np.asarray(v[...]) for path, v in nnx.to_flat_state(nnx.state(model))}


def assert_equal(model, expected: dict[str, np.ndarray]) -> None:
    """Bit for bit, and of the same types."""
    got = values(model)
    assert got.keys() == expected.keys()
    for name, value in got.items():
        assert value.dtype == expected[name].dtype
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def write_ours(folder) -> nnx.Module:
    """A model of ours, and its weights as m.weights.h5 (Keras 3), m.h5 (legacy) and m.safetensors in `folder`."""
    model = mnist(seed=1)
    export_keras(model, folder / "m.weights.h5")
    export_safetensors(model, folder / "m.safetensors")
    write_legacy(folder / "m.h5", [(layer.name, [t.values() for t in layer.tensors]) for layer in model_layers(model)])
    return model


def write_legacy(path, layers, group_name=None, weight_names=None):
    """A file as Keras 1 and 2 wrote them: [(layer name, arrays)]."""
    with h5py.File(path, "w") as file:
        group = file.create_group(group_name) if group_name else file
        group.attrs["layer_names"] = [name.encode() for name, _ in layers]
        for name, arrays in layers:
            inner = group.create_group(name)
            names = (weight_names or {}).get(name) or [f"{name.replace('/', '_')}_W_{i}:0" for i in range(len(arrays))]
            inner.attrs["weight_names"] = [weight.encode() for weight in names]
            for weight, array in zip(names, arrays, strict=True):
                inner.create_dataset(weight, data=array)
