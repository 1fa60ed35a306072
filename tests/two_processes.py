"""A process that test_distributed.py starts: `two_processes.py ADDRESS NUMBER COUNT FOLDER NAME RESIDENCE ...`.

Trains a run on test_resume.py's data and model, in FOLDER/NAME. What comes after RESIDENCE changes it.
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from jaxvision import distributed

ADDRESS, NUMBER, COUNT, FOLDER, NAME, RESIDENCE, *MORE = sys.argv[1:]
if int(COUNT) > 1:
    distributed.join(ADDRESS, int(COUNT), int(NUMBER), wait_seconds=60)

import jax  # noqa: E402
from test_resume import DATA, RUN  # noqa: E402

import jaxvision as jv  # noqa: E402
from jaxvision.models.classifier import Classifier  # noqa: E402
from jaxvision.nn import BatchNorm, Chain, Conv, Dense, Dropout, Flatten, Rescaling  # noqa: E402
from jaxvision.train.agreement import Agreement  # noqa: E402
from jaxvision.train.training_state import TrainingStates  # noqa: E402

SHORT = replace(
    RUN,
    phases=(jv.Phase(epochs=3, optimizer=jv.Optimizer("sgd", learning_rate=0.05, momentum=0.9)),),
    early_stop=jv.EarlyStop(),
    data=replace(RUN.data, batch_size=16, residence=RESIDENCE),
    evaluation=jv.Evaluation(every_steps=3),
)
"""60 examples to train on: the last batch of an epoch has 12. 20 to validate on, in batches of 16."""


class Wide(Classifier):
    """A head with matrices that are cut (144 x 512, 512 x 1,024), and one that is not."""

    def __init__(self, input_shape, num_classes, *, dtype, rngs):
        base = Chain(conv=Conv(1, 4, strides=2, rngs=rngs), norm=BatchNorm(4))
        head = Chain(
            flatten=Flatten(),
            fc1=Dense(4 * 6 * 6, 512, rngs=rngs),
            dropout=Dropout(0.5),
            fc2=Dense(512, 1024, rngs=rngs),
            logits=Dense(1024, num_classes, rngs=rngs),
        )
        super().__init__(preprocessing=Rescaling(), base=base, head=head)


run, saved = SHORT, TrainingStates.save


def after_looks(number: int, act) -> None:
    """Something happens in this process at its look of this number: after steps and before batches of evaluations."""
    done = 0

    def counting(look):
        def called(self, loss=None):
            nonlocal done
            done += 1
            if done == number:
                act()
            return look(self, loss)

        return called

    for kind in (Agreement, *Agreement.__subclasses__()):
        kind.look = counting(kind.__dict__["look"])


def told_saved(self, place, state):
    print("saved after step", place.step, flush=True)
    shards = {shard.data.shape for leaf in jax.tree.leaves(state) for shard in leaf.addressable_shards}
    print("matrices of", sorted(shape for shape in shards if len(shape) == 2))
    saved(self, place, state)


def hang():
    while True:
        signal.pause()


def fail():
    raise jv.DataError("a picture has vanished")


TrainingStates.save = told_saved
for word in MORE:
    what, _, value = word.partition("=")
    who, _, value = value.partition(",")
    if what == "odd":  # the devices divide neither the last batch nor the evaluation's
        run = replace(run, data=replace(run.data, limit_train=59), evaluation=replace(run.evaluation, batch_size=15))
    elif what == "phases":
        run = replace(run, phases=(replace(SHORT.phases[0], epochs=1), replace(SHORT.phases[0], epochs=2, start=who)))
    elif what == "wide":  # cut over so many devices
        model = jv.Model(f"{__name__}:Wide")
        run = replace(run, model=model, model_devices=int(who) if jax.device_count() > 1 else 1)
    elif what == "seed":
        run = replace(run, seed=int(value) if who == NUMBER else run.seed)
    elif who == NUMBER:
        acts = {
            "stop": lambda: os.kill(os.getpid(), signal.SIGTERM),
            "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
            "fail": fail,
        }
        after_looks(int(value), acts[what])

try:
    result = jv.fit(run, run_dir=Path(FOLDER) / NAME, data=DATA, progress=False, resume=True)
except (jv.UserError, jv.StoppedError) as error:
    print(error, file=sys.stderr)
    sys.exit(128 + error.signal if isinstance(error, jv.StoppedError) else 2)
print("devices", jax.device_count(), "of", jax.process_count(), "test", result.test)
