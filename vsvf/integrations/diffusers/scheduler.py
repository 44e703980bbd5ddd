"""VSVFScheduler: every explicit formula of the package behind diffusers' scheduler interface, in both directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from vsvf import formulas
from vsvf.engine.arguments import Request, whole_number
from vsvf.engine.stepping import Steps, levels
from vsvf.grid import Grid
from vsvf.integrations.diffusers.betas import beta_grid, check, final_of, formula_name
from vsvf.integrations.diffusers.config import config_of, is_flow, read
from vsvf.integrations.diffusers.flow import flow_grid, flow_schedule, flow_settings
from vsvf.predictors.prediction import to_epsilon
from vsvf.solve import ScheduleScale
from vsvf.state import State

# after diffusers_config, which says what to install where diffusers is missing; by these names, which diffusers looks up in
# this module when it loads a pipeline's folder
from diffusers.configuration_utils import ConfigMixin, register_to_config  # isort: skip
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers, SchedulerMixin, SchedulerOutput  # isort: skip


class VSVFScheduler(SchedulerMixin, ConfigMixin):  # type: ignore[misc]
    """Sampling and exact inversion in diffusers pipelines.

        pipe.scheduler = VSVFScheduler.from_config(pipe.scheduler.config, formula="belm", steps=2)

    Each `step` hands in one prediction and gets back the next sample to be predicted at, the image at last. Rows are those of
    `formula.plan(scheduler.grid)`, run by the engine of `vsvf.sample`: for the same numbers from the network, the same bits.

    Evaluations. `timesteps` has one entry per evaluation, in order. Linear multistep formulas with the starter "ddim" or
    "lower_order" take N = num_inference_steps of them. Coupled methods (EDICT, McCallum-Foster) take two per step: each time
    stands there twice (or next to its neighbour) and `order` is 2, as in diffusers' HeunDiscreteScheduler; the sample between
    is the other of the two coupled states. The starters "heun" and "rk4" put their stages in front. Without a starter
    (`start_from`) there are fewer: N - 1 for belm(k).

    Grid. That of `vsvf.Grid.from_schedule`, whose N timesteps are DDIMScheduler's. Where sampling ends is read from
    `final_sigmas_type`, else from `set_alpha_to_one`: True ends at sigma_bar = 0, False at the schedule's smallest. In the
    latter case a spacing that draws t = 0 itself (leading without offset, linspace) is drawn with N + 1 times, so that there
    are N steps: DDIMScheduler's N-th would go from t = 0 to t = 0. Any other choice, such as another scheduler's `timesteps`:
    `set_timesteps(timesteps=…)` or `set_timesteps(sigmas=…)`.

    Inversion. `inverse=True` marches from data to noise, `timesteps` upwards. From an image the starter makes the other k - 1
    states, and the noise shows its error; with `start_from(sampler.state())` the march that sampled is retraced.

    Flow matching. From the config of a FlowMatchEulerDiscreteScheduler (SD3, FLUX) the nodes are that scheduler's sigmas, with its
    shift, dynamic shifting (`mu`) and spacings, from sigma = 1 to 0, and the march runs in sigma and x themselves
    (`vsvf.integrations.diffusers.flow`): "ddim" is its Euler step. Inversion goes up to sigma = 1, the noise itself.

    What a linear row cannot do is left out: `clip_sample` and `thresholding` in a config are not applied (with a warning), eta
    must be 0.

    Args:
        formula: name of a formula, "belm", "stable_belm", "ddim", "edict(0.93)", … (`vsvf.formulas.by_name`).
        steps: k, for the families that have one; parameters: other arguments of the family, for instance [0.93] for EDICT.
        starter: how the first k states are made from one: "ddim", "heun", "rk4", "rk4:4", or "lower_order" (sampling only).
        inverse: march from data to noise.
        arithmetic: of the states kept inside, "float16", "bfloat16", "float32", "float64", or "fixed", whose inversion returns
            every bit; None: that of the samples.
        num_train_timesteps, beta_start, beta_end, beta_schedule, trained_betas, rescale_betas_zero_snr: the noise schedule.
            With zero terminal SNR sigma_bar is infinite at the last timestep: a grid must start below it.
        prediction_type: "epsilon", "sample" or "v_prediction".
        timestep_spacing: "leading", "linspace", "trailing", or any other spacing of `Grid.from_schedule`; steps_offset: added
            to leading timesteps. use_karras_sigmas, use_exponential_sigmas: the spacings "karras" and "log_snr".
        set_alpha_to_one, final_sigmas_type ("zero", "sigma_min"): where sampling ends, see above.
        variance_type: "learned" or "learned_range": the first half of the network's channels is the prediction.
        flow: what draws the sigmas of a flow-matching config ("shift", …); `from_config` fills it in.

    Raises:
        ValueError: a formula that cannot be stepped one evaluation at a time (implicit rows; an iterative inverse), or a config
            that cannot be read.
    """

    _compatibles = [*(e.name for e in KarrasDiffusionSchedulers), "FlowMatchEulerDiscreteScheduler"]
    order = 1
    init_noise_sigma = 1.0

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: Sequence[float] | None = None,
        prediction_type: str = "epsilon",
        timestep_spacing: str = "leading",
        steps_offset: int = 0,
        set_alpha_to_one: bool = True,
        final_sigmas_type: str | None = None,
        rescale_betas_zero_snr: bool = False,
        use_karras_sigmas: bool = False,
        use_exponential_sigmas: bool = False,
        variance_type: str | None = None,
        formula: str = "belm(2)",
        steps: int | None = None,
        parameters: Sequence[float] | None = None,
        starter: str = "ddim",
        inverse: bool = False,
        arithmetic: str | None = None,
        flow: dict[str, Any] | None = None,
    ) -> None:
        name = formula_name(formula, steps, parameters)
        self.formula = formulas.by_name(name)
        if name != formula:  # one entry that says it all, so that a later from_config(…, formula=…) meets no leftovers
            self.register_to_config(formula=name, steps=None, parameters=None)
        final_of(self.config)  # which refuses an unknown one
        self._read()
        table = np.arange(num_train_timesteps)
        self.alphas_cumprod = torch.from_numpy(self.schedule.alpha(table) ** 2).float()
        self.timesteps = torch.from_numpy(table if inverse else table[::-1].copy())
        self._itinerary(self._request(_toy_grid(), None))
        self.num_inference_steps: int | None = None
        self.grid: Grid | None = None
        self._given: State | None = None
        self._march: Steps | None = None
        self._levels: Itinerary | None = None
        self._begin_index: int | None = None
        self._index = 0
        self._dtype: torch.dtype | None = None  # of the samples
        self._returned: tuple[torch.Tensor | None, int | None] = (None, None)  # what went out last, and its version
        self._finished: State | None = None  # of a march that was done when the scheduler was pickled

    @classmethod
    def from_config(cls, config: Any = None, return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        """A scheduler from another one's config, as in diffusers; keyword arguments go before the config's entries.

        Raises:
            ValueError: a config of neither a beta schedule nor flow matching, or that asks for nodes which are not implemented.
        """
        if config is not None:
            config = config_of(config)
            if not is_flow(config):
                check(config)
            elif config.get("flow") is None:
                kwargs.setdefault("flow", flow_settings(config))
        return super().from_config(config, return_unused_kwargs, **kwargs)

    def _read(self) -> None:
        """The schedule that levels and times follow, and what the network's output is there."""
        if self.config["flow"] is not None:
            self.schedule, self.kind = flow_schedule(self.config["num_train_timesteps"]), "epsilon"  # v is the slope in sigma
        else:
            self.schedule, self.kind = read(self.config)

    # ---- the grid ------------------------------------------------------------------------------------------

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: Sequence[int] | None = None,
        sigmas: Sequence[float] | None = None,
        mu: float | None = None,
    ) -> None:
        """Draw the grid and forget the states (but those of `start_from`, which wait for their first step).

        Args:
            num_inference_steps: N. device: of `timesteps`.
            timesteps: the times of nodes N … 1 instead, decreasing, whichever the direction. Below them comes sigma_bar = 0
                or the smallest, as the config says.
            sigmas: sigma_bar of all the nodes N … 0 instead, decreasing. (Flow matching: as that scheduler takes them, sigmas of
                the nodes N … 1 before they are shifted, beside num_inference_steps or not.)
            mu: of dynamic shifting, for flow matching.

        Raises:
            ValueError: none or several of the three, mu without flow matching, times that do not decrease, or a grid that is too
                short for the formula.
            StateFileError: `start_from` was given the states of another grid.

        Warns:
            ZeroStabilityWarning: the formula amplifies perturbations without bound, as `vsvf.sample` and `vsvf.invert` warn.
        """
        given = sum(v is not None for v in (num_inference_steps, timesteps, sigmas))
        flow = self.config["flow"]
        if given != 1 and (flow is None or given == 0):
            raise ValueError("give one of num_inference_steps, timesteps and sigmas")
        if mu is not None and flow is None:
            raise ValueError("mu is for the dynamic shifting of flow matching, and this is a beta schedule")
        if flow is not None:
            grid = flow_grid(flow, int(self.config["num_train_timesteps"]), num_inference_steps, sigmas, timesteps, mu)
        else:
            grid = beta_grid(self.schedule, self.config, num_inference_steps, sigmas, timesteps)
        self._use(grid, device)

    def _use(self, grid: Grid, device: str | torch.device | None) -> None:
        """Make ready for a march on `grid`, from the states of `start_from` where there are any."""
        request = self._request(grid, self._given)
        itinerary = self._itinerary(request)
        if self._given is not None and not itinerary.all:
            way = "start_from was given a state that stands at its end already"
            raise ValueError(f"{way} (node {self._given.record.node}): the other direction is scheduler.inverse()")
        if self.grid is None or not np.array_equal(grid.sigma_bar, self.grid.sigma_bar):
            request.warn(stacklevel=4)
        self.grid, self.num_inference_steps = grid, grid.steps
        self._march, self._levels, self._index, self._returned, self._finished = None, itinerary, 0, (None, None), None
        times = self.schedule.timestep(np.array(itinerary.all))
        self.order = max(1, len(itinerary.main) // grid.steps)
        whole = bool(np.all(times == np.rint(times)))
        self.timesteps = torch.from_numpy(times.astype(np.int64 if whole else np.float32)).to(device)
        self._begin_index = None

    def _request(self, grid: Grid, x: torch.Tensor | State | None) -> Request:
        """A march on `grid` by this config; without x, one from a single zero."""
        c = self.config
        request = Request(
            torch.zeros((1, 1), dtype=torch.float64) if x is None else x,
            grid,
            self.formula,
            "inversion" if c["inverse"] else "sampling",
            starter=c["starter"],
            arithmetic=c["arithmetic"],
        )
        request.steppable()
        return request

    def _itinerary(self, request: Request) -> Itinerary:
        return Itinerary(*levels(request, ScheduleScale(self.schedule)))

    # ---- a step --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def step(
        self,
        model_output: torch.Tensor,
        timestep: int | float | torch.Tensor,
        sample: torch.Tensor,
        eta: float = 0.0,
        use_clipped_model_output: bool | None = None,
        generator: Any = None,
        return_dict: bool = True,
    ) -> SchedulerOutput | tuple[torch.Tensor]:
        """Take the network's output at `sample` and return the next sample to evaluate it at, or the image at the end.

        Args:
            model_output: (B, …), the prediction at `sample` and `timestep`.
            timestep: the next of `timesteps`. The first one may lie further on, as in image-to-image pipelines.
            sample: (B, …) what the last step returned, or, changed by the pipeline, what stands in its place.
            eta: 0; the methods are deterministic. use_clipped_model_output, generator: accepted for the pipelines' sake.
            return_dict: a `SchedulerOutput` with `prev_sample`, or a tuple.

        Returns:
            The next sample, in the dtype of `sample`; the states inside keep theirs.

        Raises:
            ValueError: steps in another order than `timesteps`, shapes that differ, eta other than 0.
            NonFiniteError: a prediction that is not finite, or states that overflowed.
        """
        if self._levels is None:
            raise ValueError("set_timesteps must be called before step")
        if eta:
            raise ValueError(f"eta must be 0, the methods are deterministic, got {eta}")
        if use_clipped_model_output:
            raise ValueError("use_clipped_model_output must not be set: clipping cannot be inverted")
        if model_output.shape != sample.shape:
            learned = self.config["variance_type"] in ("learned", "learned_range")
            if not learned or model_output.shape[1] != 2 * sample.shape[1]:
                raise ValueError(f"model_output has shape {tuple(model_output.shape)}, sample {tuple(sample.shape)}")
            model_output = model_output[:, : sample.shape[1]]
        march = self._at(timestep, sample)
        x, alpha = march.x, float(self.schedule.alpha_at(march.sigma_bar))
        march.give(to_epsilon(self.kind, model_output, x, alpha, alpha * march.sigma_bar))
        self._index += 1
        following = march.x.to(sample.dtype)
        self._returned = (following, None if following.is_inference() else following._version)
        self._given, self._dtype = None, sample.dtype
        return SchedulerOutput(prev_sample=following) if return_dict else (following,)

    def _at(self, timestep: int | float | torch.Tensor, sample: torch.Tensor) -> Steps:
        """The march, standing where `sample` is the state whose slope it asks for."""
        if self._march is None:
            march = self._begin(float(timestep), sample)
        elif self._march.done:
            raise ValueError("all timesteps have been stepped; call set_timesteps to start anew")
        else:
            march = self._march
        expected = float(self.timesteps[self._index])
        if float(timestep) != expected:
            raise ValueError(f"step was given timestep {float(timestep):g}, the next of timesteps is {expected:g}")
        last, version = self._returned
        untouched = sample is last and version is not None and sample._version == version
        if not untouched and not torch.equal(sample, march.x.to(sample.dtype)):
            if self._given is not None and self._index == 0:
                raise ValueError("the first sample must be the one that start_from returned")
            march.replace(sample)
        return march

    def _begin(self, timestep: float, sample: torch.Tensor) -> Steps:
        assert self.grid is not None and self._levels is not None
        grid, start = self.grid, self._start(timestep)
        if start > 0:  # in the middle, as in image-to-image: the rest of the grid alone
            done, nodes, alpha = start // self.order, grid.sigma_bar, grid.alpha
            part = slice(done, None) if self.config["inverse"] else slice(0, grid.steps + 1 - done)
            window = np.unique(self.formula.plan(grid).position[: self.formula.steps])
            if len(nodes[part]) > len(window):
                grid = Grid(nodes[part], alpha[part], None, f"part of {self.grid.name}")
            if self._given is not None or self._itinerary(self._request(grid, None)).all != self._levels.all[start:]:
                raise ValueError(f"the march cannot begin at entry {start} of timesteps: choose the start of a step")
        request = self._request(grid, sample if self._given is None else self._given)
        self._march, self._index = Steps(request, ScheduleScale(self.schedule)), start
        return self._march

    def _start(self, timestep: float) -> int:
        """The entry of `timesteps` to begin at: that of `set_begin_index`, or the first of this time that starts a step."""
        if self._begin_index is not None:
            return self._begin_index
        entries = [n for n, time in enumerate(self.timesteps.tolist()) if time == timestep]
        return next((n for n in entries if n % self.order == 0), entries[0] if entries else 0)

    def scale_model_input(self, sample: torch.Tensor, timestep: Any = None) -> torch.Tensor:
        """The sample itself: states are kept in the scale x = alpha x_bar that networks take."""
        return sample

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Where in `timesteps` the march will begin, for image-to-image pipelines.

        Raises:
            TypeError: not a whole number. ValueError: not an entry of `timesteps`.
        """
        self._begin_index = whole_number("begin_index", begin_index, 0, len(self.timesteps) - 1)

    @property
    def begin_index(self) -> int | None:
        """What `set_begin_index` was given."""
        return self._begin_index

    @property
    def step_index(self) -> int | None:
        """How many entries of `timesteps` have been stepped; None before the first."""
        return self._index if self._march is not None else None

    def add_noise(self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """alpha_t x_0 + sigma_t eps at the times t of `timesteps` (one, or one per sample); alpha = 1 - sigma for flow matching."""
        t = np.atleast_1d(timesteps.detach().cpu().numpy().astype(np.float64))
        shape = (-1, *[1] * (original_samples.ndim - 1))
        sigmas = self.schedule.sigma(t)
        alphas = self.schedule.alpha(t) if self.config["flow"] is None else 1.0 - sigmas
        alpha, sigma = (
            torch.as_tensor(v, device=original_samples.device).to(original_samples.dtype).reshape(shape) for v in (alphas, sigmas)
        )
        return alpha * original_samples + sigma * noise

    def scale_noise(self, sample: torch.Tensor, timestep: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """`add_noise` by the name and order of arguments that flow-matching pipelines use."""
        return self.add_noise(sample, noise, timestep)

    def __len__(self) -> int:
        return int(self.config["num_train_timesteps"])

    # ---- states --------------------------------------------------------------------------------------------

    def state(self) -> State:
        """The k newest states, from which the other direction retraces the march (`start_from`, `vsvf.invert`, `vsvf.sample`).

        Raises:
            ValueError: before the starter is done, or in the middle of a coupled method's step.
        """
        if self._march is not None:
            return self._march.state()
        if self._finished is None:
            raise ValueError("there is no state yet: run set_timesteps and step first")
        return self._finished

    def start_from(
        self,
        state: State,
        num_inference_steps: int | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
    ) -> torch.Tensor:
        """Begin the next march from k states instead of one and a starter.

            latents = scheduler.start_from(state, 50)
            noise = pipe(prompt, latents=latents, num_inference_steps=50, output_type="latent").images

        Args:
            state: of `state()`, `vsvf.sample` or `vsvf.invert`, with this formula and grid.
            num_inference_steps: N; default: the grid of the last `set_timesteps`. A further call of `set_timesteps` with the
                same N (as pipelines make) keeps the states.
            dtype: of the returned sample; default: that of this scheduler's (or its inverse's) last samples, else float32 for
                fixed-point states and theirs for others. device: where the march is run; default theirs.

        Returns:
            The first sample to evaluate the network at: one of the k states, not always the newest.

        Raises:
            StateFileError: the states of another formula or grid. ValueError: N unknown.
        """
        if device is not None:
            tape = {row: cell.to(device) for row, cell in state.tape.items()}
            state = replace(state, values=state.values.to(device), tape=tape)
        self._given = state
        try:
            if num_inference_steps is not None or self.grid is None:
                self.set_timesteps(num_inference_steps)
            else:
                self._use(self.grid, self.timesteps.device)
        except Exception:
            self._given = None
            raise
        assert self.grid is not None
        own = state.values.dtype if state.values.is_floating_point() else torch.float32
        return Steps(self._request(self.grid, state), ScheduleScale(self.schedule)).x.to(dtype or self._dtype or own)

    def __getstate__(self) -> dict[str, Any]:
        """What pickle and deepcopy take along; formula and schedule are made again from the config, a march from its place."""
        own = {key: value for key, value in self.__dict__.items() if key not in ("formula", "schedule", "_march", "_returned")}
        march = self._march
        if march is None:
            return own
        if march.done:
            return {**own, "_finished": march.state()}
        request = march.request
        return {**own, "under_way": (request.grid, request.given or request.tensor, march.snapshot())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        under_way = state.pop("under_way", None)
        self.__dict__.update(state, _march=None, _returned=(None, None))
        self.formula = formulas.by_name(self.config["formula"])
        self._read()
        if under_way is not None:
            grid, x, snapshot = under_way
            self._march = Steps(self._request(grid, x), ScheduleScale(self.schedule), resume=snapshot)

    def inverse(self) -> VSVFScheduler:
        """The scheduler of the other direction, with this one's config. It knows N and waits for `start_from` or an image."""
        other = self.from_config(self.config, inverse=not self.config["inverse"])
        other.grid, other.num_inference_steps, other._dtype = self.grid, self.num_inference_steps, self._dtype
        return other


@dataclass(frozen=True)
class Itinerary:
    """sigma_bar at the evaluations of a march, in order: those of the starter, and those of the formula's rows."""

    starter: list[float]
    main: list[float]

    @property
    def all(self) -> list[float]:
        return self.starter + self.main


def _toy_grid() -> Grid:
    """Enough nodes for any formula: what a formula, a starter and a direction cannot do together shows on any grid."""
    return Grid.from_sigma_bar(np.linspace(0.1, 2.0, 40))
