"""jaxvision as a peer: the model, the step and the feed of `jaxvision train`, driven as its loop drives them."""

import itertools
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.bench.peers.serve import Work, serve
from jaxvision.data import ArrayPart, open_feed
from jaxvision.serialize import check
from jaxvision.train.checkpoint import ModelCard
from jaxvision.train.log import REFRESH_SECONDS
from jaxvision.train.loop import steps_per_dispatch, stretch_lengths
from jaxvision.train.memory import keep_memory
from jaxvision.train.optimizer import make_optimizer
from jaxvision.train.state import init_state
from jaxvision.train.step import make_train_step, make_train_stretch
from jaxvision.train.task import make_task
from jaxvision.types import Stretch


class Ours:
    """`make_train_stretch` over a resident feed, a step at a time."""

    seconds_choosing = 0.0

    def __init__(self, work: Work):
        kept = keep_memory()
        run, case = check(work.case.run(work.precision)), work.case
        inputs, target = (np.concatenate(arrays) for arrays in zip(*work.batches, strict=True))
        self.feed = open_feed(
            ArrayPart(inputs, target),
            batch_size=run.data.batch_size,
            seed=run.seed,
            residence=run.data.residence,
            resident_mb=run.data.resident_mb,
            shuffle=run.data.shuffle,
        )
        task = make_task(run, case.num_classes)
        model = ModelCard(run, ("",) * case.num_classes, case.image_shape, task.num_outputs).build()
        for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param)):
            variable[...] = jnp.asarray(work.weights[".".join(map(str, path))])
        optimizer, _ = make_optimizer(run.phases[0], self.feed.steps_per_epoch)
        graph, self.start = init_state(model, optimizer, ema=False)
        self.train_stretch = make_train_stretch(make_train_step(graph, task, optimizer, run, case.num_classes))
        self.restart()

        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(self.start.params))
        self.device = jax.devices()[0].device_kind
        self.most = steps_per_dispatch(run, self.feed)
        self.setup = f"resident feed, {self.most} step{'s' * (self.most > 1)} a call"
        self.setup += ", keep_memory" if kept else ""
        self.versions = {"jax": jax.__version__}

    def restart(self) -> None:
        self.state = jax.block_until_ready(jax.tree.map(jnp.copy, self.start))  # the step donates its state
        self.checked = self._cycle(1)

    def _cycle(self, most: int) -> Iterator[Stretch]:
        lengths = stretch_lengths(0, self.feed.steps_per_epoch, most, lambda step: False)
        return itertools.chain.from_iterable(self.feed.stretches(epoch, lengths) for epoch in itertools.count())

    def checked_step(self, index: int) -> float:
        self.state, losses = self.train_stretch(self.state, next(self.checked))
        return float(losses[0])

    def train(self, steps: int) -> None:
        # As train/loop.py with train/log.py: steps are dispatched ahead, and twice a second the loss of the step
        # before the last one is waited for.
        before, done = None, 0
        looked = time.perf_counter()
        for stretch in self._cycle(self.most):
            self.state, loss = self.train_stretch(self.state, stretch)
            done += stretch.num_steps
            if done >= steps:  # the last call may do more: at our expense
                break
            if before is not None and time.perf_counter() - looked >= REFRESH_SECONDS:
                before.block_until_ready()
                looked = time.perf_counter()
            before = loss
        jax.block_until_ready(loss)


if __name__ == "__main__":
    serve(Ours)
