"""What a run is: one frozen `Run` value describes it whole.

This module imports nothing of ours, so every floor of the house and every old run folder can read it.
Values are plain dataclasses: `dataclasses.replace` makes variants, `jaxvision.serialize` reads and writes
JSON and checks types, ranges and names.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

SCHEMA_VERSION = 2

PARTS = ("train", "validation", "test")
"""The parts of a dataset, as folders, arrays, metrics and messages name them."""

Count = Annotated[int, Field(ge=1)]
Counts = Annotated[tuple[Count, ...], Field(min_length=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Option = bool | int | float | str | tuple[int, ...] | None


@dataclass(frozen=True)
class Data:
    """Which examples, at which size, in which batches."""

    source: str = "digits"
    """digits, shapes, npz, folder, masks, pets, csv, tfds:NAME, or package.module:Name of your own."""
    path: str | None = None
    """The source's folder or file (tfds: its data_dir)."""
    target: str | None = None
    """What to predict where examples hold several things: label or mask of shapes, a feature's name of tfds, the
    column of a csv that names the class. None: the label."""
    labels_per_image: Literal["auto", "one", "any"] = "auto"
    """csv: whether a row has exactly one class (one) or any number of classes (any). auto: any for a column labels and
    for columns of 0 and 1, else one."""
    file_column: str | None = None
    """csv: the column of file names. None: file, filename, image, path, id and the like, or else the first column."""
    part_column: str | None = None
    """csv: the column that says train, validation or test. None: part or split; without these all rows train."""
    image_folder: str | None = None
    """csv: the folder that file names are relative to, seen from the CSV's. None: the CSV's folder."""
    class_names: tuple[str, ...] = ()
    """Names of the classes in the order of their numbers, where the data has none, as masks and arrays."""
    label_offset: Annotated[int, Field(ge=0)] = 0
    """Number of the first class in labels or masks as stored (1 where they hold 1, 2, 3); it is taken off."""
    label_values: tuple[int, ...] = ()
    """Numbers of the classes in labels as stored, in the order of the classes (10 20 30); empty: 0, 1, 2, ..."""
    mask_values: tuple[int, ...] = ()
    """Numbers of the classes in masks as stored, in the order of the classes (0 255); empty: 0, 1, 2, ..."""
    mask_thresholds: tuple[int, ...] = ()
    """Cut grey levels or instance numbers in masks into classes: class 1 is from the first of these up, class 2 from
    the second (128: soft edges between 0 and 255; 1: instance numbers above a background of 0)."""
    ignore_label: Annotated[int, Field(ge=0)] | None = None
    """Number in masks as stored that marks pixels that count nowhere: not in the loss, not in any metric."""
    image_size: tuple[Count, Count] | None = None
    """Height and width to resize to (bilinear). None keeps the size the pictures have."""
    resize: Literal["stretch", "crop"] = "stretch"
    """Stretch pictures to image_size, or cut them to its aspect ratio about the middle first (crop)."""
    channels: Literal[1, 3] | None = None
    """Colour channels to decode to. None: 3 for a folder, as stored elsewhere."""
    bad_pictures: Literal["refuse", "skip"] = "refuse"
    """Picture files that cannot be decoded stop the run (refuse), or are left out before it begins, each named, counted
    in the result and listed in the run folder (skip). To find them, skip decodes every picture at each opening."""
    max_bad: Share = 0.05
    """With bad_pictures=skip: the largest share of all pictures that may be left out; more is an error."""
    batch_size: Count = 32
    """Examples per optimizer step, over all devices."""
    validation_fraction: Fraction = 0.0
    """Share of the training part set aside to validate, where the source has no validation part."""
    split_seed: int = 1337
    """Seed of that set-aside part and of the `limit_*` choices; apart from the run's seed on purpose."""
    limit_train: Count | None = None
    """Train on this many examples, drawn at random by split_seed."""
    limit_validation: Count | None = None
    """Validate on this many examples, drawn at random by split_seed."""
    limit_test: Count | None = None
    """Test on this many examples, drawn at random by split_seed."""
    residence: Literal["auto", "device", "stream"] = "auto"
    """Decoded pictures stay on the device (device), come batch by batch (stream), or as resident_mb decides (auto)."""
    resident_mb: Count = 2048
    """With residence=auto: a part of up to this many MB (2**20 bytes) decoded stays on the device."""
    cache: Annotated[str, Field(min_length=1)] | None = None
    """Folder of decoded pictures and kept features, so that a second run makes none. None: the user's; off: none."""
    cache_mb: Count = 20480
    """Most MB (2**20 bytes) that a folder of the cache may take; what was not used for longest goes first."""
    shuffle: bool = True
    """Draw training batches in a new order each epoch; a pure function of seed and epoch."""


@dataclass(frozen=True)
class Augment:
    """Random changes to training pictures, drawn on the device inside the step; off in evaluation."""

    flip: Literal["none", "horizontal", "vertical", "both"] = "none"
    """Mirror with probability 1/2 along each named axis."""
    rotation: Share = 0.0
    """Rotate by up to plus or minus this share of a full turn (0.1 is 36 degrees), as Keras' RandomRotation."""
    zoom: Fraction = 0.0
    """Zoom by a factor of 1 plus or minus this, one for height and width, as Keras' RandomZoom."""
    translation: Share = 0.0
    """Shift by up to this share of height and of width."""
    brightness: Share = 0.0
    """Add up to plus or minus this share of the pixel range 0..255."""
    contrast: Share = 0.0
    """Scale the distance to each channel's mean by 1 plus or minus up to this."""
    crop_padding: Annotated[int, Field(ge=0)] = 0
    """Pad by this many reflected pixels and cut a random window of the old size."""
    mixup: NonNegative = 0.0
    """Blend pairs of examples with a weight from Beta(a, a) (Zhang et al. 2018); 0 is off."""
    cutmix: NonNegative = 0.0
    """Paste a box of one example into another, its area from Beta(a, a) (Yun et al. 2019); 0 is off."""


@dataclass(frozen=True)
class Model:
    """Which architecture, with which options."""

    name: str = "convnet-mnist"
    """A name from `jaxvision list --all`, or package.module:Class of your own."""
    options: dict[str, Option] = field(default_factory=dict)
    """Keyword options of that model (width, dropout, ...); `jaxvision summary NAME --help` lists them."""
    weights: str | None = None
    """Start from imagenet (published weights, fetched once) or a file: Keras' .h5, .weights.h5, .keras; safetensors."""
    reinit_head: bool = False
    """With weights: they fill the base, and the head keeps its fresh values (other classes, another head)."""
    init_from: str | None = None
    """Start from the best checkpoint of this run folder, whose model must have the same tensors."""


@dataclass(frozen=True)
class Optimizer:
    """An optimizer with Keras' default numbers."""

    name: Literal["rmsprop", "sgd", "adam", "adamw"] = "rmsprop"
    """rmsprop, sgd, adam or adamw."""
    learning_rate: Positive = 1e-3
    """Peak learning rate; the schedule scales it."""
    momentum: Fraction = 0.0
    """Momentum of rmsprop and sgd."""
    nesterov: bool = False
    """Nesterov's form of sgd's momentum."""
    rho: Fraction = 0.9
    """Decay of rmsprop's mean of squared gradients."""
    beta_1: Fraction = 0.9
    """Decay of adam's and adamw's mean of gradients."""
    beta_2: Fraction = 0.999
    """Decay of adam's and adamw's mean of squared gradients."""
    epsilon: Positive = 1e-7
    """Added to the denominator (rmsprop: inside the square root), as Keras does."""
    weight_decay: NonNegative = 0.0
    """Decoupled decay of kernels (not of biases and norms), times the learning rate."""
    clip_norm: Positive | None = None
    """Scale gradients so that their global L2 norm is at most this."""


@dataclass(frozen=True)
class Schedule:
    """How the learning rate moves over a phase, in epochs of that phase."""

    name: Literal["constant", "cosine", "linear", "step"] = "constant"
    """After the warm-up: hold, or fall from 1 to final_scale by a cosine, a line, or steps."""
    warmup_epochs: NonNegative = 0.0
    """Rise linearly from 0 over this many epochs first."""
    final_scale: NonNegative = 0.0
    """Where cosine and linear end, as a share of the learning rate."""
    step_epochs: tuple[Positive, ...] = ()
    """With name=step: multiply by step_factor at these epochs."""
    step_factor: Positive = 0.1
    """With name=step: the factor."""


@dataclass(frozen=True)
class Group:
    """Parameters that learn at a rate of their own."""

    pattern: str
    """Which: a pattern as in Phase.trainable."""
    learning_rate_scale: NonNegative
    """Factor on the phase's learning rate, decay included; the first group that matches counts."""


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one optimizer; a run is one or more of them."""

    epochs: Count = 5
    """Passes over the training examples."""
    optimizer: Optimizer = Optimizer()
    """The phase's optimizer, started afresh."""
    schedule: Schedule = Schedule()
    """The phase's learning-rate schedule."""
    trainable: tuple[str, ...] | None = None
    """What is trained, the rest is frozen; None: all. Names of layers, blocks, tensors or paths (head, base/block5_*),
    * matches anything; base[-4:] are the last four layers of the base."""
    batch_norm: Literal["auto", "frozen", "trained"] = "auto"
    """Whether BatchNorm trains where trainable says so. auto: not in the base of a phase that freezes anything."""
    groups: tuple[Group, ...] = ()
    """Parameters with learning rates of their own."""
    start: Literal["best", "last"] = "best"
    """A later phase starts from the best checkpoint of the phase before (averaged where ema_decay averages), or from
    where that ended (last)."""


@dataclass(frozen=True)
class Loss:
    """Cross-entropy and its options."""

    label_smoothing: Fraction = 0.0
    """Mix targets with this share of the uniform distribution."""
    two_logits: bool = False
    """With two classes: softmax over two outputs instead of one output with a sigmoid."""
    class_weights: tuple[NonNegative, ...] = ()
    """Weight of each class in the loss (segmentation: of its pixels); the loss is the weighted mean. None given: 1."""
    dice: NonNegative = 0.0
    """Segmentation: add this times the soft Dice loss of each picture, weighted as its pixels are."""


@dataclass(frozen=True)
class Evaluation:
    """When to look at the validation part. Always at the end of an epoch."""

    every_steps: Count | None = None
    """Also after every so many training steps."""
    batch_size: Count | None = None
    """Examples per evaluation batch; None: the training batch size."""


@dataclass(frozen=True)
class Checkpoint:
    """Which checkpoint is the run's result."""

    monitor: str | None = "validation/loss"
    """Metric that picks the best checkpoint; none: the last one is the result."""
    direction: Literal["auto", "min", "max"] = "auto"
    """Whether a smaller (min) or a larger value (max) is better. auto: as the metric itself says, min for the loss, max
    for accuracy, IoU, Dice, average precision and F1. A run that contradicts its metric is refused."""
    every_minutes: NonNegative = 5.0
    """Also save what it takes to go on with the run (--resume) once so long has passed since the last time; 0: after
    every step. A run that is told to stop (SIGTERM, Ctrl-C) saves it in any case."""


@dataclass(frozen=True)
class EarlyStop:
    """Stop when the monitored metric (see Checkpoint) no longer improves."""

    patience: Count | None = None
    """Epochs without improvement before stopping; none: never stop early."""
    min_delta: NonNegative = 0.0
    """A change smaller than this is no improvement."""


@dataclass(frozen=True)
class Log:
    """Where a run tells about itself, beside metrics.jsonl and timing.jsonl."""

    tensorboard: bool = True
    """Write TensorBoard events into the run folder."""
    wandb_project: str | None = None
    """Also log to this Weights & Biases project (extra `wandb`)."""
    profile_steps: tuple[Count, Count] | None = None
    """Write a profiler trace of training steps N to M (counted from 1) into the run folder."""


@dataclass(frozen=True)
class Run:
    """A whole run: data, model, training and what to keep of it."""

    name: str = "run"
    """Name of the experiment, and of the run folder under runs/."""
    task: Literal["classification", "multilabel", "segmentation"] = "classification"
    """What is predicted, one class or any number of classes per picture or a class per pixel; decides loss, metrics and
    the number of outputs."""
    data: Data = Data()
    augment: Augment = Augment()
    model: Model = field(default_factory=Model)
    phases: tuple[Phase, ...] = (Phase(),)
    loss: Loss = Loss()
    cache_features: Literal["off", "evaluation", "all"] = "off"
    """Run a base that stays frozen once over the pictures to validate and test on, or over all, and keep its features
    on disk: the head is evaluated on them, and with all trained on them too."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of activations and products; parameters and losses stay float32."""
    conv: Literal["auto", "lax"] = "auto"
    """How to convolve: lax takes the compiler's own convolution on every platform; auto does so except on a CPU."""
    devices: Count | None = None
    """Devices of this machine that each batch is spread over, in equal shares; the result is that of one device, to
    rounding. None: all. Several processes always train on all they have between them."""
    model_devices: Count = 1
    """Cut the wide matrices of the model (dense kernels of 512 outputs or more, and what the optimizer keeps of them)
    over so many devices, and each batch over groups of them: for heads too large for one device."""
    deterministic: bool = False
    """On a GPU take only operations that give the same bits each time, without autotuning: slower. A CPU always so."""
    steps_per_dispatch: Count | None = None
    """Training steps that a device with resident pictures does in one call. None: 1 on a CPU, elsewhere up to 32, as
    many as take about two seconds."""
    accumulate: Count = 1
    """Split each batch into this many pieces and add their gradients: less memory, and the same step but for BatchNorm.
    That takes mean and variance of each piece and moves its statistics with each, so a step of such a model is another
    one, as in other frameworks; where BatchNorm is frozen it is the same."""
    rematerialize: Literal["none", "blocks"] = "none"
    """With blocks, each block of the model keeps its input alone for the backward pass, which computes the rest again:
    less memory, the same step to rounding, and slower."""
    ema_decay: Fraction | None = None
    """Keep an exponential moving average of the parameters and evaluate, save and test that. After n steps of a phase,
    ema_decay**n of it is still what the phase began with: a long memory needs a long run."""
    evaluation: Evaluation = Evaluation()
    checkpoint: Checkpoint = Checkpoint()
    early_stop: EarlyStop = EarlyStop()
    log: Log = Log()
    seed: int = 0
    """Seed of initial weights, order of examples, augmentation and dropout."""
    schema_version: int = SCHEMA_VERSION
    """Version of this description; old ones are upgraded on reading."""
