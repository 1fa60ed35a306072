"""Layers. One idea per file; every model of ours is built from these."""

from jaxvision.nn.chain import Chain, TrainingAware
from jaxvision.nn.conv import Conv, conv2d, conv_transpose2d
from jaxvision.nn.dense import Dense, Flatten
from jaxvision.nn.dropout import Dropout
from jaxvision.nn.pooling import AveragePool, GlobalAveragePool, MaxPool, average_pool, max_pool
from jaxvision.nn.rescaling import BgrMinusMean, Rescaling

__all__ = [
    "AveragePool",
    "BgrMinusMean",
    "Chain",
    "Conv",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAveragePool",
    "MaxPool",
    "Rescaling",
    "TrainingAware",
    "average_pool",
    "conv2d",
    "conv_transpose2d",
    "max_pool",
]
