"""Gradients through a march: the adjoint of its rows, along states that are retraced, kept or recomputed.

The derivative of a number by the states obeys the transposed rows (`Plan.adjoint`), marched against the march, with one
vector-Jacobian product of the predictor for each evaluation of the march. An exactly invertible march needs no stored path for it:
its inverse rows find the states again while the adjoint goes back (`vsvf.engine.trail`). Rounding to integers counts as the
identity, so in fixed-point arithmetic the gradient is that of the rows at states that are found again to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from vsvf.engine.arguments import Request
from vsvf.engine.evaluator import Evaluator, compare
from vsvf.engine.floating import all_finite
from vsvf.engine.march import Question, march
from vsvf.engine.run import Run
from vsvf.engine.trail import TRAILS, Evaluated, Ground, Stored, Trail
from vsvf.engine.watch import Watch
from vsvf.plan import Plan
from vsvf.state import State

Cotangents = dict[int, torch.Tensor]

LOOKS = 32
"""Slopes after which a march with a gradient reads what was noticed. The numbers left by each look lie between the graphs that
come and go; unread to the end, they break up the memory that these leave, which then grows by a state a step."""


def check_gradient(request: Request, gradient: str) -> None:
    """Whether a march can be differentiated in this way.

    Raises:
        ValueError: an unknown way, a march that iterates, or one that does not invert and should be retraced.
    """
    if gradient not in TRAILS:
        raise ValueError(f"gradient={gradient!r} is not known; choose one of {', '.join(TRAILS)}, or None")
    plan = request.plan
    if not (plan.explicit if request.sampling else plan.backward_explicit):
        why = "its steps are implicit" if request.sampling else "its inversion iterates"
        raise ValueError(
            f"gradient={gradient!r}: {plan.name} has no gradient by rows in this direction, {why}; use an explicit "
            "formula, such as belm(2) or stable_belm(2), which also inverts exactly"
        )
    if gradient == "reversible" and not plan.bidirectionally_explicit:
        raise ValueError(
            f"gradient='reversible' retraces the states, but {plan.name} is not bidirectionally explicit: use 'checkpoint' or "
            "'stored', or a BELM, BDIA, EDICT or McCallum-Foster formula"
        )


def inputs_of(network: Any, inputs: Iterable[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The tensors besides x that a march is differentiated by: the network's parameters that require it, and the given ones.

    Raises:
        TypeError: not tensors. ValueError: a given tensor that does not require a gradient.
    """
    if isinstance(inputs, torch.Tensor):
        raise TypeError("inputs must be a list of tensors, got one tensor: write inputs=[tensor]")
    given = tuple(inputs)
    for n, tensor in enumerate(given):
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"inputs[{n}] must be a tensor, got {type(tensor).__name__}")
        if not tensor.requires_grad:
            raise ValueError(f"inputs[{n}], of shape {tuple(tensor.shape)}, requires no gradient: call requires_grad_() first")
    module = network if isinstance(network, torch.nn.Module) else getattr(network, "network", None)
    parameters = [p for p in module.parameters() if p.requires_grad] if isinstance(module, torch.nn.Module) else []
    return tuple({id(tensor): tensor for tensor in (*given, *parameters)}.values())


def differentiable_march(run: Run, evaluate: Evaluator, gradient: str, inputs: Iterable[torch.Tensor]) -> State:
    """March, and let the state's `reals` carry the graph of the march.

    Args:
        run: not begun yet. evaluate: asks the predictor. gradient: "reversible", "stored" or "checkpoint".
        inputs: tensors that the predictor uses, besides the network's own parameters.

    Raises:
        ValueError: nothing requires a gradient, the predictor's output has no graph, or it depends on tensors that were not named.
        DeterminismError: two evaluations of one input differ, so that no backward pass would find the same slopes.
        What a march raises.
    """
    request = run.request
    named = inputs_of(evaluate.predictor.network, inputs)
    first = (request.given.reals if request.given is not None else request.tensor).to(request.dtype)
    if not first.requires_grad and not named:
        raise ValueError(
            f"gradient={gradient!r}: neither x nor the network's parameters require a gradient, and inputs is empty: call "
            "requires_grad_() on what you want the gradient of, or leave gradient out"
        )
    job = Job(run, evaluate, gradient, named)
    reals = _March.apply(job, first, *named)
    if job.integers is None:
        return State(reals, job.record, job.tape)
    return State(job.integers, job.record, job.tape, reals)


class Job:
    """One march forward, and its adjoint."""

    def __init__(self, run: Run, evaluate: Evaluator, gradient: str, inputs: tuple[torch.Tensor, ...]) -> None:
        self.run, self.evaluate, self.gradient, self.inputs = run, evaluate, gradient, inputs
        self.request = run.request
        self.watch = Watch(LOOKS)  # of the backward pass
        run.watch.every = run.watch.every or LOOKS
        self.again = evaluate.uncounted()
        self.trail: Trail = TRAILS[gradient](Ground(run, self.watch), lambda question: with_graph(self.again, question))
        self.started: dict[int, Evaluated] = {}  # of the starter: few
        self.examined = False
        self.integers: torch.Tensor | None = None
        self.dtype = torch.float32 if self.request.dtype in (torch.float16, torch.bfloat16) else self.request.dtype

    # ---- forward -------------------------------------------------------------------------------------------

    def forward(self) -> torch.Tensor:
        """The k last states as real numbers, (k, B, …)."""
        run, told = self.run, self.run.after

        def after(m: int) -> None:
            assert run.register is not None
            self.trail.passed(run.register, m + 1)
            if told is not None:
                told(m)

        run.after, run.entered = after, self.trail.entered
        march(run.conversation(), self._answer)
        state = run.state(self.evaluate.nfe)
        run.register, run.window, run.after, run.entered = None, {}, None, None
        self.record, self.tape = state.record, state.tape
        if self.request.fixed is None:
            return state.values
        self.integers = state.values
        return state.reals

    def _answer(self, question: Question) -> torch.Tensor:
        """eps at a state.

        The first is taken with a graph, which is looked at; all are where the graph is kept, and in fixed point, where the bits
        of the way back must be those of the way here: some kernels give others with a graph than without. Else a graph only
        costs time.
        """
        kept, first = isinstance(self.trail, Stored), not self.examined
        if kept or first or self.request.fixed is not None:
            found = with_graph(self.evaluate, question)
        else:
            found = Evaluated(question.x, self.evaluate(question))
        if first:
            self._examine(found)
        if not kept:
            found = Evaluated(question.x, found.slope.detach())  # its graph goes before another comes
        if first and not kept and all_finite(found.slope):  # else the march says so
            where = f"the first state (sigma_bar = {question.sigma_bar:.6g})"
            compare(found.slope, with_graph(self.again, question).slope.detach(), where)
        if question.rows is self.run.plans[-1]:
            self.trail.met(question.s, found)
        else:
            self.started[question.s] = found if kept else Evaluated(question.x.clone(), found.slope)
        return found.slope.detach()

    def _examine(self, found: Evaluated) -> None:
        """What can be seen at the first evaluation: whether a backward pass will find what it needs."""
        self.examined = True
        if not found.slope.requires_grad:
            raise ValueError(
                f"gradient={self.gradient!r}: the predictor's output has no graph, so nothing can be differentiated; its network "
                "runs under torch.no_grad or torch.inference_mode, or detaches its output: take that away"
            )
        for tensor in _undeclared(found, self.inputs):
            raise ValueError(
                f"gradient={self.gradient!r}: the predictor depends on a tensor of shape {tuple(tensor.shape)} that requires a "
                "gradient and is not named: give it in inputs=[…], or detach it"
            )

    # ---- backward ------------------------------------------------------------------------------------------

    def backward(self, out: torch.Tensor, cotangent: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
        """Derivatives by the first state(s) and by the inputs.

        Args:
            out: what `forward` returned. cotangent: of it, (k, B, …).
        """
        request, plans = self.request, self.run.plans
        final = out if self.integers is None else self.integers
        if not request.sampling:
            final, cotangent = final.flip(0), cotangent.flip(0)
        sums: list[torch.Tensor | None] = [None] * len(self.inputs)
        self.trail.begin(final, self.tape)
        at = {plans[-1].rows + n: cotangent[n].to(self.dtype) for n in range(len(cotangent))}
        window = adjoint(plans[-1], at, self.trail.back, self.inputs, sums)
        self.trail.end()
        self.watch.check()
        if request.given is not None:
            return torch.stack(window if request.sampling else window[::-1]), sums
        if len(plans) > 1:
            at = {}
            for n, target in enumerate(self.run.phases[0].targets):
                at[target] = window[n] if target not in at else at[target] + window[n]
            window = adjoint(plans[0], at, self._starter_back, self.inputs, sums)
            self.watch.check()
        return torch.stack(window).sum(0), sums

    def _starter_back(self, s: int) -> Evaluated:
        if isinstance(self.trail, Stored):
            return self.started[s]
        return with_graph(self.again, Question(self.started[s].leaf, s, self.run.plans[0]))


def adjoint(
    rows: Plan, at: Cotangents, back: Any, inputs: Sequence[torch.Tensor], sums: list[torch.Tensor | None]
) -> list[torch.Tensor]:
    """March the adjoint of a plan back to its first window.

    Args:
        rows: in marching order, in the scale of the states.
        at: the derivative by some of the states directly, by their number; at least one.
        back: gives a state and the slope there with its graph; the numbers that it is called with fall.
        inputs: tensors that the slopes depend on. sums: the derivatives by them, added to.

    Returns:
        The derivatives by states 0 … K - 1.
    """
    transposed = rows.adjoint()
    zero = torch.zeros_like(next(iter(at.values())))
    ring = [zero] * rows.steps  # d_{s+1}, d_{s+2}, …, d_{s+K}
    for n in range(transposed.rows):
        s = transposed.rows - 1 - n
        total = at[s].clone() if s in at else torch.zeros_like(zero)
        for weight, d in zip(transposed.a[n].tolist(), ring):
            if weight != 0.0:
                total.add_(d, alpha=weight)
        slopes = transposed.c[n].tolist()
        if any(slopes):
            weighted = torch.zeros_like(zero)
            for weight, d in zip(slopes[1:], ring):
                if weight != 0.0:
                    weighted.add_(d, alpha=weight)
            leaf, slope = back(s)
            found = torch.autograd.grad(slope, [leaf, *inputs], weighted.to(slope.dtype), retain_graph=True, allow_unused=True)
            del leaf, slope  # this graph goes before the next comes
            if found[0] is not None:
                total.add_(found[0].to(total.dtype))
            for k, derivative in enumerate(found[1:]):
                if derivative is not None:
                    known = sums[k]
                    sums[k] = derivative.clone() if known is None else known.add_(derivative)
        ring = [total, *ring[:-1]]
    return ring


def with_graph(evaluate: Evaluator, question: Question) -> Evaluated:
    """eps at a question's state, and that state as a leaf."""
    leaf = question.x.detach().clone().requires_grad_()
    with torch.enable_grad():
        return Evaluated(leaf, evaluate(question._replace(x=leaf)))


def _undeclared(found: Evaluated, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The leaves that a slope hangs on besides its state and `inputs`."""
    declared = {id(tensor) for tensor in (found.leaf, *inputs)}
    ends = {tensor.grad_fn for tensor in inputs if tensor.grad_fn is not None}
    unknown, seen, open_nodes = [], set(ends), [found.slope.grad_fn]
    while open_nodes:
        node = open_nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) not in declared:
            unknown.append(variable)
        open_nodes.extend(parent for parent, _ in node.next_functions)
    return unknown


class _March(torch.autograd.Function):
    """The march as one node of autograd's graph."""

    @staticmethod
    def forward(ctx: Any, job: Job, first: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
        out = job.forward()
        ctx.job = job
        ctx.save_for_backward(out, *inputs)
        return out

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "a march with gradient=… can be differentiated once only: call backward or autograd.grad without create_graph=True"
            )
        out, *_ = ctx.saved_tensors  # which refuses tensors that were changed in place since the march
        first, sums = ctx.job.backward(out, cotangent)
        return None, first, *sums
