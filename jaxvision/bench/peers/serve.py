"""The peer's side of the conversation with the parent: one JSON line in, one JSON line out.

The first line describes the work, and its answer introduces the peer. Each line after it is a turn. The end of the
input is the end.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from jaxvision.bench.cases import Case, Precision, from_dict

Message = dict[str, Any]
Turn = Callable[[Message], Message]

CHECKED_STEPS = 3
"""Steps whose losses or features are compared between peers."""


@dataclass(frozen=True)
class Work:
    """What a peer is to do.

    batches: (uint8 (B, H, W, C), int32 (B,) or uint8 (B, H, W)) each. weights: by jaxvision's dotted names. trained:
    names of those that are not frozen.
    """

    case: Case
    precision: Precision
    threads: int
    batches: list[tuple[np.ndarray, np.ndarray]]
    weights: dict[str, np.ndarray]
    trained: frozenset[str]


class Peer(Protocol):
    """A framework with the case's model, at the given weights."""

    device: str
    setup: str
    """How it was set for speed, in a few words."""
    versions: dict[str, str]
    parameters: int
    """Parameters that are trained; in inference all."""
    seconds_choosing: float
    """Seconds up to the first step that went into choosing between settings."""

    def check(self, index: int) -> np.ndarray:
        """Training: the loss () of one step with Keras' RMSprop on batch `index`, which is taken. Inference: the
        features (B, h, w, c) of the batch, float32."""

    def restart(self) -> None:
        """Back to the given weights."""

    def run(self, steps: int) -> None:
        """So many training steps, or the features of so many batches, as fast as it can; returns when all is done."""


def serve(make: Callable[[Work], Peer]) -> None:
    """A peer's whole process: what it finds in the first steps goes to task["found"], a .npy file, so that it can be
    compared; then each turn {"steps": n} is timed."""

    def begin(task: Message) -> tuple[Message, Turn]:
        peer = make(_work(task))
        found = [peer.check(0)]
        seconds_to_first_step = time.time() - task["started"] - peer.seconds_choosing
        found += [peer.check(index) for index in range(1, CHECKED_STEPS)]
        np.save(task["found"], np.stack(found))

        def turn(message: Message) -> Message:
            # Each turn does the same work, and weights that have learnt the few pictures by heart are not timed.
            peer.restart()
            start = time.perf_counter()
            peer.run(message["steps"])
            return {"seconds": time.perf_counter() - start}

        introduction = {
            "device": peer.device,
            "setup": peer.setup,
            "versions": peer.versions,
            "parameters": peer.parameters,
            "seconds_to_first_step": seconds_to_first_step,
        }
        return introduction, turn

    converse(begin)


def converse(begin: Callable[[Message], tuple[Message, Turn]]) -> None:
    """Answers the parent on standard input and output until the input ends.

    begin: from the first message to its answer, and to the function that answers all later ones.
    """
    # Libraries print to standard output too: the answers go through a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(message: Message) -> None:
        answers.write(json.dumps(message) + "\n")

    try:
        introduction, turn = begin(json.loads(sys.stdin.readline()))
        answer(introduction)
        for line in sys.stdin:
            answer(turn(json.loads(line)))
    except Exception as error:
        traceback.print_exc()
        answer({"error": reason(error)})


def reason(error: Exception) -> str:
    """Why a peer cannot take part, in one line."""
    message = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {message}"[:300]


def _work(task: dict[str, Any]) -> Work:
    case = from_dict(task["case"])
    with np.load(task["arrays"]) as arrays:
        inputs, target = arrays["inputs"], arrays["target"]
        weights = {name.removeprefix("weight:"): arrays[name] for name in arrays if name.startswith("weight:")}
    begins = range(0, len(target), case.batch_size)
    batches = [(inputs[i : i + case.batch_size], target[i : i + case.batch_size]) for i in begins]
    return Work(case, task["precision"], task["threads"], batches, weights, frozenset(task["trained"]))
