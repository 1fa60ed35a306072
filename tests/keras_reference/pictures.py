"""TensorFlow's resize of given pictures, and its reading of picture files."""

import sys

import numpy as np
import tensorflow as tf

given, answer, *files = sys.argv[1:]
out = {}
with np.load(given) as arrays:
    for name in ("up", "down", "mixed"):
        out[name] = tf.image.resize(arrays["pictures"], arrays[name]).numpy()
for number, file in enumerate(files):
    content = tf.io.read_file(file)
    jpeg = file.endswith(".jpg")
    for channels in (1, 3):
        # Pillow decodes JPEG accurately; TensorFlow by default in a faster way that is off by a few units.
        exact = dict(dct_method="INTEGER_ACCURATE") if jpeg else {}
        decode = tf.image.decode_jpeg if jpeg else tf.image.decode_png
        out[f"{number}-{channels}"] = tf.image.resize(decode(content, channels=channels, **exact), (50, 70)).numpy()
np.savez(answer, **out)
