"""TensorBoard events, written where they are made."""

import time
from collections.abc import Mapping
from contextlib import ExitStack

from etils import epath
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import directory_check, register_writer_factory
from tensorboardX.summary import scalar

from jaxvision.bucket import in_bucket


class EventFile:
    """Scalars of a run for TensorBoard, in a file of its own in RUN/tensorboard.

    tensorboardX, because tensorboard's own writer imports TensorFlow wherever that is installed; and not its
    SummaryWriter, whose thread dies of a full disk and leaves the run waiting for it.

    start_step: where the run is resumed; what was written for later steps is not shown then.
    """

    def __init__(self, run_dir: epath.Path, start_step: int = 0):
        folder = str(run_dir / "tensorboard")
        if in_bucket(run_dir):
            register_writer_factory("gs", _InBucket)
        directory_check(folder)
        # The writer's own name tells seconds only: a run resumed in the same one would write over its file.
        self._writer = EventsWriter(f"{folder}/events", f".{start_step}")
        if start_step:
            self._writer.write_event(Event(step=start_step + 1, session_log=SessionLog(status=SessionLog.START)))

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        """Values by name, on disk when this returns."""
        for name, value in scalars.items():
            self._writer.write_event(Event(summary=scalar(name, value), wall_time=time.time(), step=step))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _InBucket:
    """How tensorboardX writes to a bucket: with its own way a run would need a second client of Google's."""

    def __init__(self, path: str):
        self._stack = ExitStack()
        file = self._stack.enter_context(epath.Path(path).open("ab"))
        self.write, self.flush, self.close = file.write, file.flush, self._stack.close

    @staticmethod
    def directory_check(path: str) -> None:
        """There are no folders to make."""

    @classmethod
    def open(cls, path: str) -> "_InBucket":
        return cls(path)
