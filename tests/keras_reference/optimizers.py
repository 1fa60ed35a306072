"""Keras' optimizers on one matrix: optimizers.py INPUT OUTPUT; gradients (STEPS, ...) -> weights after each step."""

import sys

import keras
import numpy as np

OPTIMIZERS = {
    "rmsprop": keras.optimizers.RMSprop(0.01),
    "rmsprop_momentum": keras.optimizers.RMSprop(0.01, momentum=0.9),
    "sgd": keras.optimizers.SGD(0.01),
    "sgd_momentum": keras.optimizers.SGD(0.01, momentum=0.9),
    "sgd_nesterov": keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    "adam": keras.optimizers.Adam(0.01),
    "adamw": keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "clipped": keras.optimizers.SGD(0.01, global_clipnorm=0.5),
}

given, answer = sys.argv[1:]
data = np.load(given)
out = {}
for name, optimizer in OPTIMIZERS.items():
    weight = keras.Variable(data["weight"])
    after = []
    for gradient in data["gradients"]:
        optimizer.apply([gradient], [weight])
        after.append(np.array(weight))
    out[name] = np.stack(after)
np.savez(answer, **out)
