"""jaxvision as a peer: the model, the step, the features and the feeds of `jaxvision train`, driven as it does."""

import itertools
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.bench.cases import fresh_model
from jaxvision.bench.peers.serve import Work, serve
from jaxvision.config import Run
from jaxvision.data import ArrayPart, Feed, open_feed
from jaxvision.nn import onednn_library, onednn_trial
from jaxvision.serialize import check
from jaxvision.train.dispatch import step_flops, steps_per_dispatch, stretch_lengths
from jaxvision.train.features import CompiledBase
from jaxvision.train.freeze import select
from jaxvision.train.memory import keep_memory
from jaxvision.train.optimizer import make_optimizer
from jaxvision.train.pace import REFRESH_SECONDS
from jaxvision.train.state import init_state
from jaxvision.train.step import from_pictures, make_train_step, make_train_stretch
from jaxvision.train.task import make_task
from jaxvision.types import Stretch


class Ours:
    """The case as a run, and its model at the given weights: what training and inference share."""

    seconds_choosing = 0.0

    def __init__(self, work: Work):
        self.setup = ", keep_memory" if keep_memory() else ""
        self.settings: Run = check(work.case.run(work.precision))
        self.model = fresh_model(work.case, self.settings)
        for path, variable in nnx.to_flat_state(nnx.state(self.model, nnx.Any(nnx.Param, nnx.BatchStat))):
            variable[...] = jnp.asarray(work.weights[".".join(map(str, path))])
        inputs, target = (np.concatenate(arrays) for arrays in zip(*work.batches, strict=True))
        self.part = ArrayPart(inputs, target)
        self.device = jax.devices()[0].device_kind
        self.versions = {"jax": jax.__version__}
        if self.device == "cpu" and onednn_trial.available("package", work.precision):
            self.versions[onednn_library.PACKAGE] = str(onednn_library.version())


class Training(Ours):
    """`make_train_stretch` over a resident feed, a step at a time on a CPU."""

    def __init__(self, work: Work):
        super().__init__(work)
        run, case, phase = self.settings, work.case, self.settings.phases[0]
        assert case.num_classes is not None
        self.feed = open_feed(
            self.part,
            batch_size=run.data.batch_size,
            seed=run.seed,
            residence=run.data.residence,
            resident_mb=run.data.resident_mb,
            shuffle=run.data.shuffle,
        )
        selection = select(self.model, phase)
        selection.apply(self.model)
        optimizer, _ = make_optimizer(phase, self.feed.steps_per_epoch)
        task = make_task(run, case.num_classes)
        graph, self.start = init_state(self.model, optimizer, task, trained=selection)
        self.train_stretch = make_train_stretch(make_train_step(graph, task, optimizer, run, case.num_classes))
        self.restart()
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(self.start.params))
        self.most = steps_per_dispatch(
            run, self.feed, lambda: step_flops(*nnx.split(self.model), from_pictures, self.feed)
        )
        self.setup = f"resident feed, {self.most} step{'s' * (self.most > 1)} a call{self.setup}"

    def restart(self) -> None:
        self.state = jax.block_until_ready(jax.tree.map(jnp.copy, self.start))  # the step donates its state
        self.checked = self._cycle(1)

    def _cycle(self, most: int) -> Iterator[Stretch]:
        lengths = stretch_lengths(0, self.feed.steps_per_epoch, most, lambda step: False)
        return itertools.chain.from_iterable(self.feed.stretches(epoch, lengths) for epoch in itertools.count())

    def check(self, index: int) -> np.ndarray:
        self.state, losses = self.train_stretch(self.state, next(self.checked))
        return np.asarray(losses[0])

    def run(self, steps: int) -> None:
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


class Inference(Ours):
    """The compiled base over a streamed feed, as features are extracted before the training of a head."""

    def __init__(self, work: Work):
        super().__init__(work)
        self.base = CompiledBase(self.model, work.case.image_shape)
        data = self.settings.data
        self.feed: Feed = open_feed(
            self.part, batch_size=data.batch_size, seed=None, residence="stream", resident_mb=data.resident_mb
        )
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(self.model, nnx.Param)))
        self.setup = f"streamed feed{self.setup}"
        self.restart()

    def restart(self) -> None:
        passes = (self.base.batches(self.feed, "", False) for _ in itertools.count())
        self.features = itertools.chain.from_iterable(passes)

    def check(self, index: int) -> np.ndarray:
        return next(self.features)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            next(self.features)


def make(work: Work) -> Training | Inference:
    """The peer that the case asks for."""
    return Inference(work) if work.case.is_inference else Training(work)


if __name__ == "__main__":
    serve(make)
