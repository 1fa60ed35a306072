"""Training and evaluation mode of any module: layers of this package are called with `train`, plain Flax NNX layers are
switched as `model.train()` and `model.eval()` switch them."""

import functools
import inspect
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.errors import ConfigError

Path = tuple[Any, ...]

MODES = {
    **dict.fromkeys(("train", "training", "is_training", "update_stats"), True),
    **dict.fromkeys(("deterministic", "use_running_average", "inference"), False),
}
"""Arguments of a call, and attributes of a module, that say whether it is in training; with their values there."""

_FROZEN = "_frozen_in_training"
_STORED, _DEFAULT = 0x5EED, 0xDEFA
"""Numbers that are folded into a step's key: what is drawn for different purposes is independent."""


class Arguments(NamedTuple):
    """What a call takes beside its input. modes: arguments named in `MODES`. takes_rngs, needs_rngs: whether it takes
    random numbers, and has no default for them. anything: whether it takes any keyword. unknown: arguments that
    nobody can give: without a default, or with the name of a mode as text (`mode="train"`)."""

    modes: tuple[str, ...]
    takes_rngs: bool
    needs_rngs: bool
    anything: bool
    unknown: tuple[str, ...]


@cache
def call_arguments(kind: type[nnx.Module]) -> Arguments | None:
    """What a call of a module of this class takes; None where such modules cannot be called."""
    function = next((vars(base)["__call__"] for base in kind.__mro__ if "__call__" in vars(base)), None)
    if function is None:
        return None
    _, *parameters = inspect.signature(function).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    first = next((each for each in parameters if each.kind in (*positional, variable[0])), None)
    others = [each for each in parameters if each is not first and each.kind not in variable]
    named = [each.name for each in others if each.kind is not inspect.Parameter.POSITIONAL_ONLY]
    needed = [each.name for each in others if each.default is each.empty]
    return Arguments(
        modes=tuple(name for name in named if name in MODES),
        takes_rngs="rngs" in named,
        needs_rngs="rngs" in named and "rngs" in needed,
        anything=any(each.kind is variable[1] for each in parameters),
        unknown=tuple(
            each.name
            for each in others
            if (each.name in needed and (each.name not in named or each.name not in (*MODES, "rngs")))
            or each.default in ("train", "training", "eval", "evaluation", "inference", "test")
        ),
    )


def call(module: Any, x: Any, train: bool = False, rngs: nnx.Rngs | None = None) -> Any:
    """`module(x)` with the arguments by which its class hears of training and takes random numbers, if it has any."""
    arguments = call_arguments(type(module))  # type: ignore[arg-type]
    assert arguments is not None, f"{type(module).__name__} cannot be called"
    given: dict[str, Any] = {name: MODES[name] is train for name in arguments.modes}
    if arguments.takes_rngs and train and not (_is_flax(module) and getattr(module, "rngs", None) is not None):
        given["rngs"] = rngs
    elif arguments.needs_rngs:
        given["rngs"] = nnx.Rngs(0)
    return module(x, **given)


def call_model(model: Any, images: Any, train: bool = False, rngs: nnx.Rngs | None = None) -> jax.Array:
    """The output of a whole model, in training or in evaluation, whatever its layers are.

    In training, every stream of random numbers that the model stores starts from the key of `rngs`, and is afterwards
    as it was before: what a step draws is a pure function of its key. A call changes no parameters (`nnx.SpectralNorm`
    does); other stored values keep their type. What layers `sow` is dropped.

    Raises: ConfigError: the model creates variables when it is called, or changes the shape of one.
    """
    set_mode(model, train)
    if not train:
        return _called(model, images, False, None)
    if not holds_foreign(model):
        return _called(model, images, True, rngs)
    assert rngs is not None
    key = rngs.dropout.key[...]
    if "default" not in rngs:
        setattr(rngs, "default", nnx.RngStream(jax.random.fold_in(key, _DEFAULT), tag="default"))  # noqa: B010
    before = {path: variable.get_value() for path, variable in _variables(model).items()}
    _start_streams(model, jax.random.fold_in(key, _STORED))
    output = _called(model, images, True, rngs)
    _settle(model, before)
    return output


def evaluated(model: Any, images: Any) -> tuple[Any, dict[str, Any]]:
    """(what the model makes of the images in evaluation, {name: value} of the variables that it then holds anew).
    Parameters are not among them, nor what layers `sow`.

    Raises: ConfigError: the model creates variables when it is called.
    """
    before = {path: variable.get_value() for path, variable in _variables(model).items()}
    output = call_model(model, images)
    after = {path: v for path, v in _variables(model).items() if _is_kept(path, v, before)}
    return output, {
        "/".join(map(str, path)): variable.get_value()
        for path, variable in after.items()
        if not isinstance(variable, nnx.Param) and variable.get_value() is not before[path]
    }


def set_mode(model: nnx.Module, train: bool) -> None:
    """Switches plain Flax layers, and modules of the user's that are written like them, into training or evaluation;
    frozen ones into evaluation.

    As `model.train()` and `model.eval()`, which a class may override, and `nnx.view`; also attributes `training` and
    `is_training` that are True or False.
    """
    name = "train" if train else "eval"
    switch = getattr(model, name)
    (switch if callable(switch) else functools.partial(getattr(nnx.Module, name), model))()
    for _, module in nnx.iter_modules(model):
        is_training = train and not getattr(module, _FROZEN, False)
        for attribute, in_training in MODES.items():
            if isinstance(vars(module).get(attribute), bool):
                setattr(module, attribute, in_training is is_training)
        if set_view := getattr(module, "set_view", None):
            accepted = inspect.signature(set_view).parameters
            wanted = {name: MODES[name] is is_training for name in ("deterministic", "use_running_average")}
            set_view(**{name: value for name, value in wanted.items() if name in accepted})


def freeze(module: nnx.Module, is_frozen: bool) -> None:
    """From now on a module does in training what it does in evaluation, whatever its call is given; or no longer."""
    kind = type(module)
    if is_frozen != hasattr(kind, _FROZEN):
        # Only this one's class changes: others of its kind go on as they were.
        object.__setattr__(module, "__class__", _frozen(kind) if is_frozen else kind.__base__)


@cache
def _frozen(kind: type[nnx.Module]) -> type[nnx.Module]:
    arguments = call_arguments(kind)
    members: dict[str, Any] = {_FROZEN: True}
    if arguments is not None and arguments.modes:
        function: Any = kind.__call__  # type: ignore[operator]
        signature = inspect.signature(function)

        @functools.wraps(function)
        def in_evaluation(self: nnx.Module, *args: Any, **kwargs: Any) -> Any:
            given = signature.bind(self, *args, **kwargs)
            given.arguments.update({name: not MODES[name] for name in arguments.modes})
            return function(*given.args, **given.kwargs)

        members["__call__"] = in_evaluation
    return type(kind.__name__, (kind,), members)


def _called(model: Any, images: Any, train: bool, rngs: nnx.Rngs | None) -> Any:
    arguments = call_arguments(type(model))  # type: ignore[arg-type]
    if arguments is not None and arguments.anything and not arguments.modes and not _is_flax(model):
        return model(images, train=train, rngs=rngs) if train else model(images, train=False)
    return call(model, images, train, rngs)


def _is_flax(module: Any) -> bool:
    return type(module).__module__.startswith("flax.")


def holds_foreign(model: nnx.Module) -> bool:
    """Whether anything in the model is not of this package."""
    return any(not type(module).__module__.startswith("jaxvision.") for _, module in nnx.iter_modules(model))


def _variables(model: nnx.Module) -> dict[Path, nnx.Variable]:
    return {path: node for path, node in nnx.iter_graph(model) if isinstance(node, nnx.Variable)}


def _start_streams(model: nnx.Module, key: jax.Array) -> None:
    """Sets every stored stream of random numbers to a key of its own, and its count to 0."""
    for number, variable in enumerate(v for _, v in sorted(_variables(model).items(), key=lambda each: str(each[0]))):
        if isinstance(variable, nnx.RngCount):
            variable.set_value(jnp.zeros_like(variable.get_value()))
        elif isinstance(variable, nnx.RngKey):
            data, kind = jax.random.key_data(variable.get_value()), jax.random.key_impl(variable.get_value())
            bits = jax.random.bits(jax.random.fold_in(key, number), data.shape, data.dtype)
            variable.set_value(jax.random.wrap_key_data(bits, impl=kind))


def _settle(model: nnx.Module, before: dict[Path, Any]) -> None:
    """Leaves of a call in training what a step may change: values of the types they had."""
    modules = dict(nnx.iter_modules(model))
    passing = set()
    for path, variable in _variables(model).items():
        value, old = variable.get_value(), before.get(path)
        if not _is_kept(path, variable, before):
            passing.add(path)
        elif value is old:
            continue
        elif isinstance(variable, nnx.Param | nnx.RngState) or _is_frozen(path, modules):
            variable.set_value(old)
        elif isinstance(value, jax.Array) and isinstance(old, jax.Array):
            if value.shape != old.shape:
                name = "/".join(map(str, path))
                raise ConfigError(
                    f"model: a call in training changes the shape of {name}. Received: {value.shape} after {old.shape}"
                )
            variable.set_value(jnp.asarray(value, old.dtype))
    if passing:
        nnx.pop(model, lambda path, variable: path in passing)


def _is_frozen(path: Path, modules: dict[Path, nnx.Module]) -> bool:
    return any(hasattr(modules.get(path[:length]), _FROZEN) for length in range(len(path) + 1))


def _is_kept(path: Path, variable: nnx.Variable, before: dict[Path, Any]) -> bool:
    """False where the variable holds what `sow` or `perturb` noted of this call. Raises ConfigError: it is new."""
    if path in before:
        return True
    if isinstance(variable, nnx.Intermediate | nnx.Perturbation) or isinstance(variable.get_value(), tuple):
        return False
    raise ConfigError(
        f"model: {'/'.join(map(str, path))} ({type(variable).__name__}) is created when the model is called, so each"
        " step would begin with a new one and training would not keep it. Create it in __init__."
    )
