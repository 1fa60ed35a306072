"""Runs that are trained in one program, and their arrays."""

from collections.abc import Sequence
from functools import cached_property
from typing import TypeVar

import jax
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from jaxvision.config import Run
from jaxvision.mesh import cut_wide, on_each
from jaxvision.train.member import Member
from jaxvision.train.metrics import Totals
from jaxvision.train.state import TrainState
from jaxvision.train.task import Task
from jaxvision.train.vectorize import Alike, alike, member_of, stack

Tree = TypeVar("Tree")


class Group:
    """Runs at the same place. Their arrays have an axis of the runs in front, cut over the devices; those of a run that
    is alone do not. lanes: the runs by their places on the axis; the last fills up what is missing to a multiple of the
    devices. state: of their training."""

    state: TrainState

    def __init__(self, members: Sequence[Member], mesh: Mesh):
        self.members, self._mesh = members, mesh
        self.lanes = members if self.is_single else [*members, *[members[-1]] * (-len(members) % mesh.size)]

    @property
    def is_single(self) -> bool:
        return len(self.members) == 1

    @property
    def run(self) -> Run:
        """What all are, but for `common.numbers` and dropout."""
        return self.members[0].run

    @property
    def active(self) -> list[Member]:
        """The members that go on in the phase."""
        return [member for member in self.members if member.failed is None and not member.stopped]

    @property
    def has_failed(self) -> bool:
        """Whether a member has ended here, for its loss was no number."""
        return any(member.failed is not None for member in self.members)

    @cached_property
    def common(self) -> Alike:
        return alike([member.card for member in self.lanes])

    def together(self, trees: Sequence[Tree]) -> Tree:
        """The arrays of the group, from those of each member."""
        if self.is_single:
            return cut_wide(self._mesh, trees[0])
        return stack([*trees, *[trees[-1]] * (len(self.lanes) - len(trees))], self._mesh)

    def of(self, member: Member, tree: Tree) -> Tree:
        """A member's own."""
        return tree if self.is_single else member_of(tree, self.members.index(member))

    def zero(self, task: Task) -> Totals:
        """Totals of each member before the first batch."""
        return (
            on_each(self._mesh, task.zero()) if self.is_single else stack([task.zero()] * len(self.lanes), self._mesh)
        )

    def metrics(self, task: Task, totals: Totals) -> list[dict[str, float]]:
        """Of each member."""
        if self.is_single:
            return [task.compute(totals)]
        host = jax.device_get(totals)
        return [task.compute(member_of(host, number)) for number in range(len(self.members))]

    def norms(self, params: nnx.State) -> list[float]:
        """The L2 norm of each member's parameters."""
        if self.is_single:
            return [float(optax.tree.norm(params))]
        return np.asarray(jax.vmap(optax.tree.norm)(params)).tolist()
