"""Layers. One idea per file; every model of ours is built from these."""

from jaxvision.nn.chain import Chain
from jaxvision.nn.conv import Conv, conv2d, conv_transpose2d
from jaxvision.nn.dense import Dense, Flatten
from jaxvision.nn.pooling import AveragePool, MaxPool, average_pool, max_pool
from jaxvision.nn.rescaling import Rescaling

__all__ = [
    "AveragePool",
    "Chain",
    "Conv",
    "Dense",
    "Flatten",
    "MaxPool",
    "Rescaling",
    "average_pool",
    "conv2d",
    "conv_transpose2d",
    "max_pool",
]
