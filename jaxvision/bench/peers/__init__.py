"""The peers: frameworks that work on the same case, each in a process of its own, written as its users would write it.

Each script imports its framework in its own process only; this module and the parent process import none of them.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jaxvision.errors import ConfigError, nearest


class Script(NamedTuple):
    """What `python -m` runs: a module that calls `serve`, and its arguments."""

    module: str
    arguments: tuple[str, ...] = ()


OURS = "jaxvision"
PEERS = {
    OURS: Script("jaxvision.bench.peers.ours"),
    "keras-jax": Script("jaxvision.bench.peers.keras_peer", ("jax",)),
    "keras-tensorflow": Script("jaxvision.bench.peers.keras_peer", ("tensorflow",)),
    "torch-eager": Script("jaxvision.bench.peers.torch_peer", ("eager",)),
    "torch-compile": Script("jaxvision.bench.peers.torch_peer", ("compile",)),
}


def find_peers(names: Sequence[str]) -> dict[str, Script]:
    """The peers of these names; all where none is named. ConfigError: unknown name."""
    for name in names:
        if name not in PEERS:
            raise ConfigError(
                f"bench: there is no such peer.{nearest(name, PEERS)} Peers: {', '.join(PEERS)}. Received: {name!r}"
            )
    return {name: PEERS[name] for name in names} or PEERS
