"""What keras.utils.image_dataset_from_directory reads.

image_folder.py GIVEN.npz ANSWER.npz DIR HEIGHT WIDTH MODE RESIZE, the last one stretch or crop.
"""

import sys

import keras
import numpy as np

_, answer, folder, height, width, mode, resize = sys.argv[1:]
dataset = keras.utils.image_dataset_from_directory(
    folder,
    image_size=(int(height), int(width)),
    color_mode=mode,
    batch_size=None,
    shuffle=False,
    crop_to_aspect_ratio=resize == "crop",
)
pictures, target = zip(*dataset.as_numpy_iterator(), strict=True)
np.savez(
    answer,
    pictures=np.stack(pictures),
    target=np.stack(target),
    class_names=dataset.class_names,
    paths=dataset.file_paths,
)
