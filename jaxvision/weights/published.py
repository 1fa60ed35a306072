"""The weights that Keras publishes for our models: file names, addresses, hashes as in keras.applications 3.15."""

from dataclasses import dataclass
from pathlib import Path

from jaxvision.errors import ConfigError, nearest
from jaxvision.weights.contents import WeightsFile
from jaxvision.weights.fetch import fetch, weights_folder

_STORAGE = "https://storage.googleapis.com/"
_CREDIT = "trained on ImageNet, published with Keras; Keras' sources state no licence for the file"
_OXFORD = "trained on ImageNet by Oxford's Visual Geometry Group, under CC BY 4.0; published with Keras"


@dataclass(frozen=True)
class Published:
    """A file of weights that Keras publishes. md5: of the whole file, None where Keras has none."""

    model: str
    top: bool
    url: str
    md5: str | None
    licence: str

    @property
    def file_name(self) -> str:
        """The file's name, which is also its name in the cache."""
        return self.url.rpartition("/")[2]

    @property
    def path(self) -> Path:
        """Where the file is kept once fetched, and where one fetched by hand is found."""
        return weights_folder() / self.file_name


def _pair(model: str, top: str, no_top: str, md5: tuple[str | None, str | None], licence: str) -> tuple[Published, ...]:
    return (
        Published(model, True, _STORAGE + top, md5[0], licence),
        Published(model, False, _STORAGE + no_top, md5[1], licence),
    )


def _ordered(model: str, folder: str, md5: tuple[str | None, str | None], licence: str) -> tuple[Published, ...]:
    path = f"tensorflow/keras-applications/{folder}/{model}_weights_tf_dim_ordering_tf_kernels"
    return _pair(model, f"{path}.h5", f"{path}_notop.h5", md5, licence)


_MOBILENET = "tensorflow/keras-applications/mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224"

PUBLISHED: dict[tuple[str, bool], Published] = {
    (file.model, file.top): file
    for file in (
        *_ordered("vgg16", "vgg16", ("64373286793e3c8b2b4e3219cbf3544b", "6d6bbae143d832006294945121d1f1fc"), _OXFORD),
        *_ordered("vgg19", "vgg19", ("cbe5617147190e668d6c5d5026f83318", "253f8cb515780f3b799900260a226db6"), _OXFORD),
        *_ordered(
            "resnet50", "resnet", ("2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626"), _CREDIT
        ),
        *_ordered(
            "xception", "xception", ("0a58e3b7378bc2990ea3b43d5981f1f6", "b0042744bf5b25fce3cb969f33bebb97"), _CREDIT
        ),
        *_pair("mobilenetv2", f"{_MOBILENET}.h5", f"{_MOBILENET}_no_top.h5", (None, None), _CREDIT),
        *_pair(
            "efficientnetb0",
            "keras-applications/efficientnetb0.h5",
            "keras-applications/efficientnetb0_notop.h5",
            ("902e53a9f72be733fc0bcb005b3ebbac", "50bc09e76180e00e4465e1a485ddc09d"),
            _CREDIT,
        ),
        *_ordered(
            "densenet121", "densenet", ("9d60b8095a5708f2dcce2bca79d332c7", "30ee3e1110167f948a6b9946edeeb738"), _CREDIT
        ),
    )
}
"""(model name, with the top) -> file."""

_TELLTALE = {
    "vgg16": ("block5_conv3", "block5_conv4"),
    "vgg19": ("block5_conv4", ""),
    "resnet50": ("conv4_block6_3_conv", "conv4_block7_3_conv"),
    "xception": ("block14_sepconv2", ""),
    "mobilenetv2": ("block_16_project", ""),
    "efficientnetb0": ("block7a_project_conv", "block7b_project_conv"),
    "densenet121": ("conv5_block16_2_conv", "conv5_block17_2_conv"),
}
"""A layer that each has, and one that only its larger relatives have."""


def looks_like(file: WeightsFile) -> str | None:
    """The model that a file says it is of, or the published architecture that its layers are called after, or None."""
    layer_names = {layer.name.replace("/", "_") for layer in file.layers}
    if file.model:
        return file.model
    for model, (has, has_not) in _TELLTALE.items():
        if has in layer_names and has_not not in layer_names:
            return model
    return None


def published_file(model_name: str, top: bool) -> Path:
    """Keras' published weights of that model, with or without its top of 1,000 classes; fetched if they are not here.

    A file of that name in the cache is used as it is: the hash is checked when it is downloaded.

    Raises: ConfigError: none are published for that model; or they are not here and could not be fetched.
    """
    if (model_name, top) not in PUBLISHED:
        models = sorted({model for model, _ in PUBLISHED})
        raise ConfigError(
            f"weights: none are published for {model_name!r}.{nearest(model_name, models)} There are for:"
            f" {', '.join(models)}."
        )
    file = PUBLISHED[model_name, top]
    if not file.path.is_file():
        what = f"the weights of {model_name} {'with its' if top else 'without'} top"
        fetch(file.url, file.path, md5=file.md5, what=what)
    return file.path
