"""One training step and one evaluation step: pure functions, jitted. Models, data and disk are unknown here."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxvision.augment import augment_batch
from jaxvision.config import Run
from jaxvision.nn.mode import call_model
from jaxvision.train.metrics import Totals
from jaxvision.train.state import TrainState
from jaxvision.train.task import Task
from jaxvision.types import Array, Batch, Stretch

TrainStep = Callable[[TrainState, Batch], tuple[TrainState, jax.Array]]
Gradients = Callable[[TrainState, Batch, jax.Array], tuple[tuple[jax.Array, tuple[nnx.State, Totals]], nnx.State]]
TrainStretch = Callable[[TrainState, Stretch], tuple[TrainState, jax.Array]]
EvalStep = Callable[[nnx.State, Totals, Batch], Totals]
Forward = Callable[[nnx.Module, Array, bool, nnx.Rngs | None], jax.Array]
"""`logits = forward(model, inputs, train, rngs)`."""


def from_pictures(model: Any, inputs: Array, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
    """Logits of the whole model."""
    return call_model(model, inputs, train, rngs)


def from_features(model: Any, inputs: Array, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
    """Logits of the model's head, on what its base made of the pictures."""
    return model.head(inputs, train, rngs=rngs)


def make_gradients(graph: nnx.GraphDef, task: Task, run: Run, forward: Forward = from_pictures) -> Gradients:
    """`(loss, (rest, totals)), grads = gradients(state, batch, key)`: mean loss over the valid examples of a batch, by
    their weights, and its gradient; the variables that are not trained and the totals, both brought forward by it.

    The batch goes through in `run.accumulate` pieces, whose gradients add up to that of the whole. The last batch of an
    epoch, where it is shorter, goes through in pieces as large as those of the others, and the last of these may be
    shorter. No piece is padded: BatchNorm would take the padding for images.
    """
    piece_size = run.data.batch_size // run.accumulate

    def batch_loss(params: nnx.State, rest: nnx.State, totals: Totals, batch: Batch, key: jax.Array, whole: jax.Array):
        # `rest` comes from outside the gradient; its variables are made anew so that the model may change them.
        model = nnx.merge(graph, params, jax.tree.map(lambda leaf: leaf, rest))
        logits = forward(model, batch.inputs, True, nnx.Rngs(dropout=key))
        losses = task.loss(logits, batch.target)
        totals = task.add(totals, logits, batch, losses)
        trained = {path for path, _ in nnx.to_flat_state(params)}
        _, _, rest = nnx.split(model, lambda path, _: path in trained, ...)  # type: ignore[misc]
        return task.weighted_sum(batch, losses) / whole, (rest, totals)

    differentiate = jax.value_and_grad(batch_loss, has_aux=True)

    def gradients(state: TrainState, batch: Batch, key: jax.Array):
        weight = jnp.sum(task.batch_weight(batch))
        whole = jnp.where(weight > 0, weight, 1.0)  # a batch of which nothing counts has a loss of 0
        if run.accumulate == 1:
            return differentiate(state.params, state.rest, state.totals, batch, key, whole)

        def add_piece(carry, piece):
            loss, rest, totals, grads = carry
            part, part_key = piece
            (part_loss, (rest, totals)), part_grads = differentiate(state.params, rest, totals, part, part_key, whole)
            return (loss + part_loss, rest, totals, jax.tree.map(jnp.add, grads, part_grads)), None

        zeros = jax.tree.map(jnp.zeros_like, state.params)
        carry = (jnp.zeros((), jnp.float32), state.rest, state.totals, zeros)
        count = len(batch.valid)
        number = count // piece_size
        whole_pieces = jax.tree.map(lambda x: x[: number * piece_size].reshape(-1, piece_size, *x.shape[1:]), batch)
        keys = jax.random.split(key, max(run.accumulate, -(-count // piece_size)))
        if number:
            carry, _ = jax.lax.scan(add_piece, carry, (whole_pieces, keys[:number]))
        if count % piece_size:
            carry, _ = add_piece(carry, (jax.tree.map(lambda x: x[number * piece_size :], batch), keys[number]))
        loss, rest, totals, grads = carry
        return (loss, (rest, totals)), grads

    return gradients


def make_train_step(
    graph: nnx.GraphDef,
    task: Task,
    optimizer: optax.GradientTransformation,
    run: Run,
    num_classes: int,
    forward: Forward = from_pictures,
) -> TrainStep:
    """`state, loss = train_step(state, batch)`; the state passed in is donated, so use the one returned.

    The seed is the state's, so that runs that differ in it alone have one program.
    """
    gradients = make_gradients(graph, task, run, forward)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, jax.Array]:
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        batch = augment_batch(augment_key, batch, run.augment, num_classes=num_classes)
        (loss, (rest, totals)), grads = gradients(state, batch, dropout_key)
        updates, optimizer_state = optimizer.update(grads, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = None if run.ema_decay is None else _moving_average(state.ema, params, run.ema_decay)
        return TrainState(state.step + 1, params, rest, optimizer_state, ema, totals, state.key), loss

    return jax.jit(train_step, donate_argnums=0)


def make_train_stretch(
    train_step: TrainStep, *, deterministic: bool = False, shardings: tuple[Any, Any] | None = None
) -> TrainStretch:
    """`state, losses = train_stretch(state, stretch)`: the steps of a stretch in one program, losses float32 (k,).

    The state passed in is donated. shardings: of what comes out; None: as the compiler likes.
    """
    options = compiler_options(deterministic)
    return jax.jit(steps_of(train_step), donate_argnums=0, out_shardings=shardings, compiler_options=options)


def steps_of(train_step: TrainStep) -> TrainStretch:
    """The function that `make_train_stretch` compiles.

    The batch is gathered inside, so that a device with the examples in its memory only waits for row numbers.
    """

    def train_stretch(state: TrainState, stretch: Stretch) -> tuple[TrainState, jax.Array]:
        inputs, target = jnp.asarray(stretch.inputs), jnp.asarray(stretch.target)
        if stretch.rows is None:
            state, loss = train_step(state, Batch(inputs, target, jnp.ones(len(target), jnp.bool_)))
            return state, loss[None]

        def train_rows(state: TrainState, rows: jax.Array) -> tuple[TrainState, jax.Array]:
            picked, labels = (array.at[rows].get(mode="promise_in_bounds") for array in (inputs, target))
            return train_step(state, Batch(picked, labels, jnp.ones(len(rows), jnp.bool_)))

        if stretch.num_steps > 1:
            return jax.lax.scan(train_rows, state, jnp.asarray(stretch.rows))
        state, loss = train_rows(state, jnp.asarray(stretch.rows)[0])
        return state, loss[None]

    return train_stretch


def compiler_options(deterministic: bool) -> dict[str, bool]:
    """What makes the compiler take, on a GPU, operations that give the same bits each time (no atomic additions), and
    the same algorithms in each process (no autotuning)."""
    return {"xla_gpu_deterministic_ops": True} if deterministic and jax.default_backend() == "gpu" else {}


def make_eval_step(
    graph: nnx.GraphDef, task: Task, forward: Forward = from_pictures, *, deterministic: bool = False
) -> EvalStep:
    """`totals = eval_step(variables, totals, batch)`: adds a batch; rows that are not valid do not count.

    variables: all of the model's.
    """

    return jax.jit(batch_added(graph, task, forward), compiler_options=compiler_options(deterministic))


def batch_added(graph: nnx.GraphDef, task: Task, forward: Forward) -> EvalStep:
    """The function that `make_eval_step` compiles."""

    def eval_step(variables: nnx.State, totals: Totals, batch: Batch) -> Totals:
        logits = forward(nnx.merge(graph, variables), batch.inputs, False, None)
        return task.add(totals, logits, batch, task.loss(logits, batch.target))

    return eval_step


def _moving_average(average: Any, params: Any, decay: float) -> Any:
    return jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, average, params)
