"""The methods of editing by name, and what a user can set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vsvf.fixed import Fixed

EDIT_METHODS: dict[str, str] = {
    "resample": "invert under the source's prompt, sample under the target's (EDICT's and BELM's editing)",
    "p2p": "prompt-to-prompt: the source is sampled beside the target at the same guidance, with attention control",
    "direct": "Direct Inversion: the source branch retraces itself at the guidance of the way up; prompt-to-prompt control",
    "null_text": "null-text inversion: an embedding of no prompt per node keeps the guided source on DDIM's path; DDIM alone",
    "negative_prompt": "negative-prompt inversion: the source's prompt in the place of no prompt; prompt-to-prompt control",
    "masactrl": "mutual self-attention (MasaCtrl): the target looks at the source's keys and values; source as in direct",
}
STARTS = ("source", "starter", "shifted")
SOURCES = ("auto", "replay", "pinned")
GUIDED_SOURCE = ("p2p", "null_text", "negative_prompt")  # methods whose source branch goes down at the target's guidance
ATTENTION = ("auto", "replace", "refine", "none")


@dataclass(frozen=True)
class Settings:
    """What an edit is to be made with.

    Attributes:
        method: a name in `EDIT_METHODS`.
        formula: of both branches: one that is explicit both ways, "ddim" (DDIM inversion up), or a Runge-Kutta method ("ees25").
        guidance, guidance_up: of the way down and of the inversion.
        strength: share of the nodes that the edit goes through: it begins at node round(strength N).
        starter: of the k - 1 states that a picture lacks.
        start: how the target's k states begin: "source": as the source's; "starter": by the starter from the noisiest of them under
            the target's prompt; "shifted": the source's plus the difference of what the starter makes under the two prompts.
        source: "replay" lets the source's rows retrace its way, and stores nothing; "pinned" stores the way up; "auto" replays
            where that is exact.
        attention: of prompt-to-prompt: "replace" (as many words), "refine", "none", or "auto", the first that fits.
        cross_until, self_until: shares of the nodes during which cross- and self-attention are the source's.
        self_halvings: self-attention is copied where maps have at most (h / 2^n)(w / 2^n) pixels; None asks the model
            for the coarsest resolution outside its middle block.
        reweight: weights of words of the target's prompt.
        blend_words: words of source and target that a local blend follows; () for none, ("auto",) for the words that differ.
        threshold: of the local blend. blend_after: share of the nodes before it.
        scope: of a blend: "all" states, or the "newest" alone.
        mutual_after, mutual_layer: of "masactrl", when and from which self-attention layer on.
        arithmetic: of the source's states, as in `vsvf.sample`. apart: evaluate the source by itself, so that its bits do not
            depend on the batch.
        maps: keep the cross-attention maps.

    Raises:
        ValueError: a choice that there is not, or a number out of range.
    """

    method: str = "direct"
    formula: str = "stable_belm(3)"
    guidance: float = 3.0
    guidance_up: float = 1.0
    strength: float = 1.0
    starter: str = "heun"
    start: str = "source"
    source: str = "auto"
    attention: str = "auto"
    cross_until: float = 0.4
    self_until: float = 0.6
    self_halvings: int | None = None
    reweight: Mapping[str, float] = field(default_factory=dict)
    blend_words: tuple[str, ...] = ()
    threshold: float = 0.3
    blend_after: float = 0.2
    scope: str = "all"
    mutual_after: float = 0.08
    mutual_layer: int = 0
    arithmetic: str | Fixed = "float64"
    apart: bool = False
    maps: bool = False

    def __post_init__(self) -> None:
        for name, choices in (
            ("method", tuple(EDIT_METHODS)),
            ("start", STARTS),
            ("source", SOURCES),
            ("attention", ATTENTION),
            ("scope", ("all", "newest")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r} is not known; choose one of {', '.join(choices)}")
        if not 0.0 < self.strength <= 1.0:
            raise ValueError(f"strength must lie above 0 and not above 1, got {self.strength}")
        for name in ("cross_until", "self_until", "threshold", "blend_after", "mutual_after"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must lie in 0 … 1, got {getattr(self, name)}")
        if self.method in GUIDED_SOURCE and self.source == "pinned":
            raise ValueError(f"source='pinned' is Direct Inversion: method must be another than {self.method!r}")
        if self.method == "null_text" and self.formula != "ddim":
            raise ValueError(f"null_text is defined for DDIM: formula must be 'ddim', got {self.formula!r}")
        if self.method == "null_text" and self.guidance_up != 1.0:
            raise ValueError(f"null_text goes up at guidance_up 1, got {self.guidance_up}")

    def pinned(self, exact: bool) -> bool:
        """Whether the source is pinned to its stored way up, given whether the sampler retraces it."""
        return self.source == "pinned" or (self.source == "auto" and not exact and self.method not in GUIDED_SOURCE)

    @property
    def controls_attention(self) -> bool:
        """Whether attention layers are controlled or watched."""
        prompts = self.method not in ("resample", "masactrl") and (self.attention != "none" or bool(self.reweight))
        return prompts or self.method == "masactrl" or bool(self.blend_words) or self.maps
