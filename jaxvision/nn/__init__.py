"""Layers. One idea per file; every model of ours is built from these."""

from jaxvision.nn.activation import Activation
from jaxvision.nn.blocks import ConvNormAct, Order, Residual, projection
from jaxvision.nn.chain import Chain, TrainingAware, apply
from jaxvision.nn.conv import Conv, conv2d, conv_transpose2d
from jaxvision.nn.conv_transpose import ConvTranspose
from jaxvision.nn.dense import Dense, Flatten
from jaxvision.nn.depthwise import DepthwiseConv, SeparableConv
from jaxvision.nn.dropout import Dropout
from jaxvision.nn.norm import BatchNorm, Normalization
from jaxvision.nn.pooling import AveragePool, GlobalAveragePool, MaxPool, ZeroPad, average_pool, max_pool
from jaxvision.nn.rescaling import BgrMinusMean, Rescaling
from jaxvision.nn.upsampling import upsample_nearest

__all__ = [
    "Activation",
    "AveragePool",
    "BatchNorm",
    "BgrMinusMean",
    "Chain",
    "Conv",
    "ConvNormAct",
    "ConvTranspose",
    "Dense",
    "DepthwiseConv",
    "Dropout",
    "Flatten",
    "GlobalAveragePool",
    "MaxPool",
    "Normalization",
    "Order",
    "Rescaling",
    "Residual",
    "SeparableConv",
    "TrainingAware",
    "ZeroPad",
    "apply",
    "average_pool",
    "conv2d",
    "conv_transpose2d",
    "max_pool",
    "projection",
    "upsample_nearest",
]
