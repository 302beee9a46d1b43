"""The driver: a run is a pure triple (init, step, done)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import register_pytree_node_class

from gdjax._internal import checks, control_flow, trees
from gdjax._internal.programs import exporting, lanes
from gdjax.objectives import Objective, ObjectiveLike, implicit
from gdjax.objectives.implicit import Found
from gdjax.optimizers import answers
from gdjax.runs import recording, scan
from gdjax.runs.evaluation import Evaluator, value_and_grad
from gdjax.runs.recording import Record
from gdjax.runs.scan import Position
from gdjax.stopping import DEFAULT, StopCriterion, as_criterion
from gdjax.types import Answer, KeyLike, Params, PyTree, Result, Scalar, State, Status, Step, ValueFn

__all__ = ["Run", "RunState"]


class RunState(NamedTuple):
    """Where a run stands between two steps.

    Attributes:
      params: the point to evaluate next; a trial for methods that keep an `Answer`.
      optimizer: the optimizer's state.
      stop: the criterion's state.
      answer: the last good point.
      count: evaluations made.
      steps: updates behind the answer.
      draws: mini-batches drawn before the current one.
      refresh: whether the next evaluation shows an accepted point to a new mini-batch.
      status: a `Status` as int8.
      trace: recorded arrays, or None.
    """

    params: Params
    optimizer: State
    stop: State
    answer: Answer
    count: Scalar
    steps: Scalar
    draws: Scalar
    refresh: Scalar
    status: Scalar
    trace: PyTree


@register_pytree_node_class
class Run:
    """One optimization as a pure triple ``init()``, ``step(state)``, ``done(state)``, then ``result(state)``.

    A run is a pytree of its arrays (data, starting point, key, tolerances), so runs cross ``jit`` and
    ``vmap``; its functions are static.

    Each step evaluates value and gradient once, at the point that the update before it proposed, and
    shows them to the optimizer. After ``max_steps`` updates the last point is evaluated too: a run of
    n steps evaluates the objective n + 1 times, and its value belongs to its point.

    Args:
      objective: a function ``params -> scalar``, or an `Objective` such as `finite_sum` makes.
      params: the starting point, a pytree of floating arrays.
      optimizer: any gradient transformation of gdjax or optax.
      stop: a `StopCriterion`; None takes exactly ``max_steps`` steps, the fixed-length form, which
        reverse-mode differentiation can pass through.
      max_steps: the largest number of updates, a Python integer.
      record: a function of a `Step`, or ``every(stride, function)``; what it returns is stacked
        into ``Result.trace``.
      key: a JAX key, or an integer seed (a tracer too); needed by objectives that draw mini-batches.

    Raises:
      TypeError: params that are not floating, an objective that is not scalar (when first traced).
      ValueError: empty params, a negative ``max_steps``, mini-batches without a key.
    """

    def __init__(
        self,
        objective: ObjectiveLike,
        params: Params,
        optimizer: optax.GradientTransformation,
        *,
        stop: StopCriterion | None = DEFAULT,
        max_steps: int = 1000,
        record: Record = None,
        key: KeyLike | None = None,
    ):
        if not isinstance(objective, Objective):
            checks.objective(objective, params)
        checks.integer("minimize", 0, max_steps=max_steps)
        if isinstance(objective, Objective) and objective.sample is not None and key is None:
            raise ValueError("the objective draws mini-batches: pass key=jax.random.key(0)")
        self.objective = trees.callables_as_trees(objective)
        self.params = checks.float_params(params, "minimize")
        self.optimizer = trees.callables_as_trees(checks.transformation(optimizer))
        self.stop = trees.callables_as_trees(as_criterion(stop))
        self.key = checks.random_key(key)
        self.max_steps = int(max_steps)
        self.record = recording.as_recorder(record)
        self._evaluator = Evaluator(self.objective, self.key)

    def tree_flatten(self):
        arrays = (self.objective, self.params, self.optimizer, self.stop, self.key)
        return arrays, (self.max_steps, self.record)

    @classmethod
    def tree_unflatten(cls, static, arrays):
        run = object.__new__(cls)
        run.objective, run.params, run.optimizer, run.stop, run.key = arrays
        run.max_steps, run.record = static
        run._evaluator = Evaluator(run.objective, run.key)
        return run

    @property
    def draws_batches(self) -> bool:
        """Whether the objective draws mini-batches."""
        return self._evaluator.draws_batches

    def init(self) -> RunState:
        """The state before the first evaluation; evaluates nothing."""
        params, full = trees.strong(self.params), self._evaluator.full()
        value = jax.eval_shape(lambda params: checks.scalar_value(full(params), "minimize"), params)
        # Inside shard_map JAX sums the gradients of replicated params over the axes that the value varies over;
        # a value of each device's own (its key, its data) means a run of each device's own.
        params = control_flow.vary_with(params, lambda p: self._evaluator.value_fn(jnp.int32(0))(p))
        optimizer = answers.held_back(trees.strong(self.optimizer.init(params)))
        params = answers.start(optimizer, params)
        unknown = jnp.asarray(jnp.inf, value.dtype)
        # Norms overflow where values in half precision do not.
        unmeasured = unknown if unknown.dtype.itemsize >= 4 else unknown.astype(jnp.float32)
        answer = Answer(params, unknown, unmeasured, jnp.int8(Status.RUNNING))
        zero = jnp.int32(0)
        first = Step(zero, params, unknown, unmeasured, trees.largest(params))
        record = self.record
        state = RunState(
            params=params,
            optimizer=optimizer,
            stop=None if self.stop is None else trees.strong(self.stop.init(params)),
            answer=answer,
            count=zero,
            steps=zero,
            draws=zero,
            refresh=jnp.asarray(True),
            status=jnp.int8(Status.RUNNING),
            trace=None if record is None else recording.blank(record, first, self.max_steps),
        )
        # So that a step may be given it for good: jit(run.step, donate_argnums=0).
        return trees.unaliased(state, self)

    def value(self, position: Position) -> Scalar:
        """The objective at a position, on the batch that is due there."""
        return self._evaluator.value_fn(position.draws)(position.params)

    def propose(self, value: Scalar, grad: Params, position: Position) -> Position:
        """The next position, given what was found at this one."""
        params, value_fn = position.params, self._evaluator.value_fn(position.draws)
        update = optax.with_extra_args_support(self.optimizer).update
        # Under "strict" JAX checks the objective, which is the user's: not whether a method, or one of
        # optax, adds a count to a flag.
        with jax.numpy_dtype_promotion("standard"):
            updates, optimizer = update(
                grad, position.optimizer, params, value=value, grad=grad, value_fn=value_fn
            )
        checks.same_structure(updates, params, "optimizer.update", "updates")
        optimizer = trees.keep_types(optimizer, position.optimizer)
        return Position(optax.apply_updates(params, updates), optimizer, position.draws + 1)

    def evaluate(self, position: Position) -> tuple[Scalar, Params]:
        """Value and gradient at a position, on the batch that is due there."""
        return value_and_grad(self._evaluator.value_fn(position.draws), position.params)

    def move(self, position: Position) -> tuple[Scalar, Params, Position]:
        """One evaluation and one update: value, gradient and the next position."""
        value, grad = self.evaluate(position)
        return value, grad, self.propose(value, grad, position)

    def unrecorded(self) -> "Run":
        """The same run, recording nothing."""
        arrays, (max_steps, _) = self.tree_flatten()
        return Run.tree_unflatten((max_steps, None), arrays)

    def value_fn(self) -> ValueFn:
        """The objective over all data, where that is known; traced once a run."""
        return self._evaluator.full()

    def using(self, optimizer: optax.GradientTransformation, objective: ValueFn | None = None) -> "Run":
        """The same run by another optimizer, and on another objective where one is given."""
        (same, params, _, stop, key), static = self.tree_flatten()
        changed = trees.callables_as_trees((same if objective is None else objective, optimizer))
        run = Run.tree_unflatten(static, (changed[0], params, changed[1], stop, key))
        if objective is None:
            run._evaluator = self._evaluator  # keeps what it has traced
        return run

    def step(self, state: RunState) -> RunState:
        """Evaluates the proposed point and lets the optimizer judge it and propose the next.

        A run that has ended keeps its answer, status and steps.
        """
        params, running = state.params, self._running(state)
        value, grad, moved = self.move(Position(params, state.optimizer, state.draws))
        proposal, optimizer = moved.params, moved.optimizer
        seen = answers.seen(optimizer, params, value, grad, state.answer)
        if seen is None:
            lost = ~(jnp.isfinite(value) & trees.all_finite(grad))
            seen = Answer(params, value, trees.norm(grad), jnp.int8(Status.RUNNING))
            good = running & (~lost | (state.count == 0))
            draws, refresh = moved.draws, state.refresh
        else:
            value, lost, good = seen.value, ~jnp.isfinite(seen.value), running
            proposal, draws, refresh = self._hold_batch(state, seen, proposal)
        answer = trees.choose(good, trees.keep_types(seen, state.answer), state.answer)
        steps = jnp.where(good, state.count, state.steps)
        looked_at = self.stop is not None or self.record is not None
        move = trees.distance(moved.params, answer.params) if looked_at else 0.0
        view = Step(steps, answer.params, answer.value, answer.residual, move)
        failed = lost & running
        failure = jnp.where(value == -jnp.inf, Status.UNBOUNDED, Status.NONFINITE)
        ended, stop = self._termination(state, answer, view)
        status = jnp.where(failed, failure, jnp.where(running, ended, state.status))
        trace = state.trace
        if self.record is not None:
            trace = recording.write(self.record, trace, view, state.count, good)
        return RunState(
            params=proposal,
            optimizer=optimizer,
            stop=stop,
            answer=answer,
            count=state.count + 1,
            steps=steps,
            draws=draws,
            refresh=refresh,
            status=status.astype(jnp.int8),
            trace=trace,
        )

    def _running(self, state: RunState) -> Scalar:
        return state.status == Status.RUNNING

    def _hold_batch(self, state: RunState, answer: Answer, proposal: Params):
        """Keeps the mini-batch while a trial is pending, shows an accepted point to the next one.

        A trial and its base are judged on the same batch. An accepted point is evaluated on the next
        batch before the step from it is proposed: its method meets its own answer again, and takes
        the new value and gradient as the base.
        """
        if not self.draws_batches:
            return proposal, state.draws, state.refresh
        refresh = trees.all_equal(answer.params, state.params) & ~state.refresh
        return trees.choose(refresh, answer.params, proposal), state.draws + refresh, refresh

    def _termination(self, state: RunState, answer: Answer, view: Step):
        """The criterion's word, else the method's own, else whether steps are left."""
        last = state.count >= self.max_steps
        own = jnp.asarray(answer.status, jnp.int8)
        if self.stop is None:
            status, stop = jnp.where(last, own, Status.RUNNING), None
        else:
            status, stop = self.stop.update(state.stop, view)
            stop = trees.keep_types(stop, state.stop)
            status = jnp.where(status == Status.RUNNING, own, status)
        return jnp.where(last & (status == Status.RUNNING), Status.MAX_STEPS, status), stop

    def done(self, state: RunState) -> Scalar:
        """Whether the run has ended."""
        return ~self._running(state)

    def result(self, state: RunState) -> Result:
        """What the run has come to; a mini-batch objective is evaluated over all data here."""
        answer, status = state.answer, state.status
        value, residual = answer.value, answer.residual
        if self.draws_batches and self.objective.full is not None:
            full, grad = value_and_grad(self._evaluator.full(), answer.params)
            if not answers.keeps(state.optimizer, answer.params):
                residual = trees.norm(grad).astype(residual.dtype)
            elif answers.held(state.optimizer):  # a method that may minimize more than the objective
                extra = answers.penalty(self._with_held(state.optimizer), answer.params)
                full = full if extra is None else full + extra
            value = full.astype(value.dtype)
            status = jnp.where(jnp.isfinite(value), status, jnp.int8(Status.NONFINITE))
        result = Result(answer.params, value, residual, state.steps, status, state.optimizer, state.trace)
        exporting.register(result)
        return result

    def solve(self) -> Result:
        """Runs from start to end.

        The fixed-length form is a ``scan``, which derivatives pass through step by step; in reverse only for
        methods that take every step they propose, elsewhere it is NaN or refused. With a stop
        criterion it is a ``while_loop``, and derivatives of params and value are those of the
        solution, by the implicit function theorem: NaN where the run did not converge. Under ``vmap``
        many such runs go through lanes on a processor: one that has ended is replaced by the next.
        """
        if self.stop is None:
            state = self.init()
            bare = not answers.keeps(state.optimizer, state.params)
            return self.result(scan.through(self, state) if bare else scan.checked(self, state))
        if self.draws_batches and self.objective.full is None:
            return self.looped()
        found, result = implicit.detached(self._until_done)
        full, optimizer = self._evaluator.full(), result.state
        if answers.held(optimizer):  # a method that knows what holds at its answers: bounds, constraints
            optimizer = self._with_held(optimizer)
        held = answers.conditions(full, found.params, optimizer)
        params, value = implicit.minimizer(full, found) if held is None else implicit.root(*held, found)
        return result._replace(params=params, value=value)

    def _with_held(self, optimizer: Any) -> Any:
        """The optimizer's state with what its steps do without, such as a regularizer: outside of their loop."""
        return answers.with_held(optimizer, self.optimizer.init(trees.strong(self.params)))

    def looped(self) -> Result:
        """Runs from start to end by a bare ``while_loop``, without derivatives.

        Under ``vmap`` it goes on until the last run is done; `solve` lets others begin where some have ended.
        """
        return self._looped(control_flow.while_loop)

    def _looped(self, while_loop: Callable[..., RunState]) -> Result:
        return self.result(while_loop(lambda s: ~self.done(s), self.step, self.init()))

    def _until_done(self):
        result = self._looped(lanes.while_loop)
        sound = (result.status == Status.CONVERGED) | (result.status == Status.NOISE_FLOOR)
        return Found(result.params, result.value, result.residual, sound), result
