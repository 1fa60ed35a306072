"""Semantic segmentation, chapter 9.2 of the book: a class for each pixel.

    jaxvision train shapes
    jaxvision train shapes-pointwise
    jaxvision train pets/segment --data.path DIR
    jaxvision train camvid/segment --data.path DIR
    jaxvision train camvid/unet --data.path DIR
    jaxvision train masks/unet --data.path DIR --data.class-names cat dog sofa

Oxford-IIIT Pets: DIR is the folder with images/ and annotations/, both archives unpacked as they are. CamVid: DIR has
images/ and masks/ with PNG masks of the same names, classes 0 to 10 and 11 for what counts nowhere. masks/unet is for
such a folder of your own.
"""

from dataclasses import replace

from jaxvision.config import Augment, Checkpoint, Data, Loss, Model, Optimizer, Phase, Run, Schedule

BY_MEAN_IOU = Checkpoint(monitor="validation/mean_iou")

SHAPES = Run(
    name="shapes",
    task="segmentation",
    data=Data(source="shapes", target="mask", batch_size=16),
    augment=Augment(flip="both"),
    model=Model("segmenter", {"features": (16, 32, 64)}),
    phases=(
        Phase(
            epochs=16,
            optimizer=Optimizer("adam", learning_rate=4e-3),
            schedule=Schedule("cosine", warmup_epochs=0.5),
        ),
    ),
    # The contour is 7 % of the pixels: by cross-entropy alone the first epochs call them all background.
    loss=Loss(dice=1.0),
    checkpoint=BY_MEAN_IOU,
)
"""The book's segmenter at a quarter of its width on the embedded shapes: shape, contour and background.

measured: test mIoU 0.9442 (1 seed, 16 epochs, 5 min, 2-core Intel Xeon, other work on the machine)
"""

SHAPES_POINTWISE = replace(
    SHAPES,
    name="shapes-pointwise",
    model=Model("segmenter", {"features": (32, 32), "kernel_size": 1, "downsample": "none"}),
)
"""The same by 1x1 convolutions, to see that a pixel's colour alone tells nothing: neighbours do.

measured: test mIoU 0.2813 (1 seed, 16 epochs, 13 min, 2-core Intel Xeon, other work on the machine)
"""

PETS_SEGMENT = Run(
    name="pets/segment",
    task="segmentation",
    data=Data(source="pets", path="data/oxford-iiit-pets", image_size=(200, 200), batch_size=64),
    model=Model("segmenter"),
    phases=(Phase(epochs=50),),
)
"""The book's recipe: its segmenter on 200x200 pictures, RMSprop, the epoch of the lowest validation loss kept."""

CAMVID_SEGMENT = Run(
    name="camvid/segment",
    task="segmentation",
    data=Data(
        source="masks",
        path="data/camvid",
        image_size=(176, 240),
        class_names=(
            "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
        ),
        ignore_label=11,
        batch_size=4,
        validation_fraction=0.2,
    ),
    augment=Augment(flip="horizontal", zoom=0.1, brightness=0.1),
    model=Model("segmenter"),
    phases=(Phase(epochs=40, optimizer=Optimizer("adam", learning_rate=1e-3), schedule=Schedule("cosine")),),
    loss=Loss(dice=1.0),
    checkpoint=BY_MEAN_IOU,
)  # fmt: skip
"""The book's segmenter from scratch on some 300 street pictures of 11 classes.

measured: validation mIoU 0.3932, highest 0.3932 (1 seed, 24 epochs, 37 min, 2-core Intel Xeon, bfloat16, other work on
the machine)
"""

CAMVID_UNET = replace(
    CAMVID_SEGMENT,
    name="camvid/unet",
    model=Model("unet", {"encoder": "vgg16"}, weights="imagenet", reinit_head=True),
    phases=(
        Phase(
            epochs=20,
            optimizer=Optimizer("adam", learning_rate=1e-3),
            schedule=Schedule("cosine"),
            trainable=("head",),
        ),
    ),
)
"""U-Net on the frozen VGG16: what ImageNet taught the encoder is worth more than 300 pictures can teach.

measured: validation mIoU 0.5258, highest 0.5258 (1 seed, 12 epochs, 27 min, 2-core Intel Xeon, bfloat16, other work on
the machine)
"""

MASKS_UNET = replace(
    CAMVID_UNET,
    name="masks/unet",
    data=Data(source="masks", path="data/masks", image_size=(256, 256), batch_size=4, validation_fraction=0.2),
)
"""The same for your own pictures and masks; say what the classes are (--data.class-names)."""
