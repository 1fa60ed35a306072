"""Files of weights that must be refused: each is made of m.weights.h5 and m.safetensors in a folder."""

import io
import json
import struct
import zipfile

import h5py
import numpy as np
from safetensors.numpy import load_file, save_file


def broken(content: bytes, at: float) -> bytes:
    return content[: int(len(content) * at)]


def hdf5_with(change):
    def make(folder):
        path = folder / "m.weights.h5"
        with h5py.File(path, "a") as file:
            change(file, folder)
        return path

    return make


def replace_kernel(make):
    """The kernel of the first layer is what `make(group, folder)` puts there."""

    def change(file, folder):
        group = file["layers/conv2d/vars"]
        del group["0"]
        make(group, folder)

    return hdf5_with(change)


def external_link(group, folder):
    group["0"] = h5py.ExternalLink(str(folder / "other.h5"), "/secret")


def soft_link(group, folder):
    group["0"] = h5py.SoftLink("/layers/conv2d_1/vars/0")


def external_storage(group, folder):
    (folder / "raw").write_bytes(bytes(3 * 3 * 32 * 4))
    group.create_dataset("0", (3, 3, 1, 32), "f4", external=[(str(folder / "raw"), 0, h5py.h5f.UNLIMITED)])


def virtual(group, folder):
    layout = h5py.VirtualLayout((3, 3, 1, 32), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "secret", (3, 3, 1, 32))
    group.create_virtual_dataset("0", layout)


def strings(group, folder):
    group["0"] = np.array([b"import os"], dtype=object)


def huge(group, folder):
    group.create_dataset("0", (10**6, 10**5), "f4", chunks=(100, 100), compression="gzip")


def plug_in(group, folder):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((3, 3, 1, 32))
    properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple((3, 3, 1, 32))
    h5py.h5d.create(group.id, b"0", h5py.h5t.NATIVE_FLOAT, space, properties)


def loop(file, folder):
    file["layers/conv2d/again"] = file["layers"]


def group_link(file, folder):
    file["layers/conv2d_9"] = h5py.ExternalLink(str(folder / "other.h5"), "/")


def written(name, content):
    def make(folder):
        (folder / name).write_bytes(content(folder) if callable(content) else content)
        return folder / name

    return make


def archive(**members):
    """A .keras archive of the model with members replaced (None: left out); a name may lead out."""

    def make(folder):
        config = {"class_name": "Sequential", "module": "keras", "config": {"layers": []}}
        content = {"config.json": json.dumps(config), "model.weights.h5": (folder / "m.weights.h5").read_bytes()}
        content |= {name: member(folder) if callable(member) else member for name, member in members.items()}
        with zipfile.ZipFile(folder / "m.keras", "w", zipfile.ZIP_DEFLATED) as file:
            for name, member in content.items():
                if member is not None:
                    file.writestr(name, member)
        return folder / "m.keras"

    return make


def symlink(folder):
    path = archive()(folder)
    with zipfile.ZipFile(path, "a") as file:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        file.writestr(info, "/etc/passwd")
    return path


def spoiled(folder):
    path = archive()(folder)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 1000] = bytes(1000)
    path.write_bytes(content)
    return path


def pickled(folder):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02.")
    (folder / "m.pt").write_bytes(buffer.getvalue())
    return folder / "m.pt"


def order_of_layers(text):
    """The safetensors with another text where the order of the layers is noted."""

    def make(folder):
        path = folder / "m.safetensors"
        save_file(load_file(path), path, {"format": "jaxvision", "format_version": "1", "layers": text})
        return path

    return make


def saved(name, **tensors):
    def make(folder):
        save_file({key.replace("__", "."): np.ones(shape, np.float32) for key, shape in tensors.items()}, folder / name)
        return folder / name

    return make


def numpy_arrays(folder):
    np.savez(folder / "m.npz", **load_file(folder / "m.safetensors"))
    return folder / "m.npz"


REFUSED = {
    "external link": (replace_kernel(external_link), "link"),
    "external link to a group": (hdf5_with(group_link), "link"),
    "soft link": (replace_kernel(soft_link), "link"),
    "external storage": (replace_kernel(external_storage), "another file"),
    "virtual dataset": (replace_kernel(virtual), "another file"),
    "text in place of numbers": (replace_kernel(strings), "no numbers"),
    "names that are no text": (hdf5_with(lambda file, _: file.attrs.update(layer_names=[1, 2])), "no text"),
    "a claim of 400 GB": (replace_kernel(huge), "claims 400,000,000,000 bytes"),
    "a filter that is a plug-in": (replace_kernel(plug_in), "plug-in"),
    "groups in a circle": (hdf5_with(loop), "without end"),
    "truncated HDF5": (written("t.h5", lambda f: broken((f / "m.weights.h5").read_bytes(), 0.5)), "truncated"),
    "truncated safetensors": (
        written("t.safetensors", lambda f: broken((f / "m.safetensors").read_bytes(), 0.5)),
        "whole",
    ),
    "truncated archive": (written("t.keras", lambda f: broken(archive()(f).read_bytes(), 0.5)), "damaged"),
    "archive with spoiled bytes": (spoiled, "damaged"),
    "text": (written("t.h5", b"not weights at all, but text\n"), "text file"),
    "empty": (written("t.h5", b""), "empty"),
    "web page": (written("t.h5", b"<!doctype html><title>404</title>"), "web page"),
    "pickle": (written("t.h5", b"\x80\x04\x95\x00"), "pickle"),
    "PyTorch's zip": (pickled, "Weights of PyTorch models are not read"),
    "PyTorch's names": (saved("t.safetensors", fc__weight=(10, 10)), "PyTorch's names"),
    "PyTorch's statistics": (saved("t.safetensors", bn__running_mean=(8,)), "PyTorch's names"),
    "a tensor under two names": (saved("t.safetensors", **{"a__kernel": (3, 3), "a/kernel": (3, 3)}), "two tensors"),
    "NumPy's archive": (numpy_arrays, "save its arrays as .safetensors"),
    "pointer of Git LFS": (written("t.h5", b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS"),
    "safetensors of a false header": (written("t.safetensors", struct.pack("<Q", 9) + b'{"a": 1}  '), "safetensors"),
    "an order of no names": (order_of_layers('[["conv1"]]'), "metadata"),
    "an order of layers that is none": (order_of_layers('{"conv1": 1}'), "metadata"),
    "a layer twice in the order": (order_of_layers('["conv1", "conv1", "conv2", "conv3", "logits"]'), "metadata"),
    "an order without end": (order_of_layers("[" * 100_000), "recursion"),
    "another HDF5": (hdf5_with(lambda file, _: [file.pop(name) for name in list(file)]), "without the groups"),
    "no such file": (lambda folder: folder / "nowhere.h5", "No such file"),
    "a folder": (lambda folder: folder, "directory"),
    "member that climbs out": (archive(**{"../evil.txt": b"x"}), "leads out"),
    "absolute member": (archive(**{"/etc/evil.txt": b"x"}), "leads out"),
    "member that is a link": (symlink, "leads out"),
    "zip bomb": (archive(**{"model.weights.h5": bytes(2**25)}), "grows"),
    "archive without weights": (archive(**{"model.weights.h5": None}), "no model.weights.h5"),
    "archive with a damaged configuration": (archive(**{"config.json": "{"}), "damaged"),
    "archive with another configuration": (archive(**{"config.json": "[1]"}), "not one of a Keras model"),
}
