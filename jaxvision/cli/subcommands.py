"""Commands that are followed by what to do: `jaxvision prepare WHAT ...`, `jaxvision bench WHAT ...`."""

from collections.abc import Callable, Mapping

from jaxvision.errors import ConfigError, nearest


def run_subcommand(
    argv: list[str], subcommands: Mapping[str, Callable[[list[str]], None]], *, usage: str, asks: str
) -> None:
    """Runs the subcommand that `argv` begins with, or prints `usage`.

    asks: what an error asks for, such as "prepare: say what to make". ConfigError: no such subcommand.
    """
    if argv and argv[0] in ("-h", "--help"):
        print(f"usage: {usage}\n\n`{' '.join(usage.split()[:2])} WHAT --help` tells more.")
    elif not argv or argv[0] not in subcommands:
        what = argv[0] if argv else ""
        raise ConfigError(f"{asks}: {usage}.{nearest(what, subcommands)} Received: {what!r}")
    else:
        subcommands[argv[0]](argv[1:])
