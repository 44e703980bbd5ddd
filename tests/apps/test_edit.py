"""The loop of editing, on a Stable Diffusion with random weights: what is exact, what meets what, and what is refused."""

import gc
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers_models import noise, small_stable_diffusion

from vsvf import Grid, invert, sample
from vsvf.apps.edit import EDIT_METHODS, Settings, edit
from vsvf.apps.edit.blends import LocalBlend, MaskBlend, latent_mask
from vsvf.apps.edit.loop import Branch, Conditions, Loop, Progress
from vsvf.apps.edit.marches import Sampler
from vsvf.apps.folder_models import folder_model
from vsvf.apps.models import digits
from vsvf.engine.walking import Walk
from vsvf.starter import TABLEAUS

SOURCE, TARGET, LONGER = ["a cat sits"], ["a zebra sits"], ["a red cat sits"]
X = noise(1, 4, 8, 8, dtype=torch.float64)
EXACT = ("belm(2)", "stable_belm(3)", "bdia(1)", "edict(0.93)", "mccallum_foster(0.999)", "corrected(stable_belm(3))")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    small_stable_diffusion(folder).save_pretrained(folder / "model")
    return folder_model(folder / "model")


@pytest.fixture(scope="module")
def grid(model):
    return Grid.from_schedule(model.schedule, 10, "leading", "smallest", steps_offset=1)


def test_the_loop_with_one_branch_is_invert_and_with_one_more_is_sample(model, grid):
    """Bit for bit, and the guidance is the pipeline's."""
    for name, arithmetic in (("stable_belm(3)", "float64"), ("belm(2)", "fixed"), ("edict(0.93)", "float32")):
        settings = Settings("resample", name, guidance=3.0, guidance_up=2.0, arithmetic=arithmetic, starter="ddim")
        edited = edit(model, X, SOURCE, TARGET, grid, settings)
        up = invert(model.predict(SOURCE, 2.0), X, grid, name, arithmetic=arithmetic, warn=False)
        assert torch.equal(edited.latent.values, up.values)
        assert edited.nfe_up == up.nfe
        down = up if arithmetic == "fixed" else replace(up)
        down = Sampler(name, grid, 10, arithmetic=arithmetic).floated(down)
        found = sample(model.predict(TARGET, 3.0), down, grid, name, warn=False)
        assert torch.equal(edited.x, found.x.to(X.dtype)) and edited.nfe_down == found.nfe
        assert edited.source is None


@pytest.mark.parametrize("name", EXACT)
def test_the_source_retraces_itself_without_a_stored_path(model, grid, name):
    """0 differing bits at every state, in integers with the source evaluated by itself, beside a target under control."""
    states = {"up": [], "source": []}
    settings = Settings("direct", name, guidance=5.0, arithmetic="fixed", apart=True, self_halvings=0)

    def seen(branch, level, x):
        if branch != "target":
            states[branch].append((level, x))

    edited = edit(model, X, SOURCE, TARGET, grid, settings, seen=seen)
    down = states["source"]
    assert len(down) >= 8
    meant = {}
    for level, x in states["up"]:
        meant.setdefault(level, []).append(x)
    for level, x in down:
        assert any(torch.equal(x, other) for other in meant[level]), level
    assert edited.source_error < 1e-12
    assert not torch.allclose(edited.x, edited.source, atol=1e-3)


def test_otherwise_at_most_rounding(model, grid):
    for arithmetic, bound in (("float64", 2e-5), ("float32", 1e-3)):
        assert edit(model, X, SOURCE, TARGET, grid, Settings(arithmetic=arithmetic)).source_error < bound


def test_direct_inversion_of_ddim_is_pinned_and_its_target_is_that_of_the_paper(model, grid):
    """Step by step as published: assign the stored state to the source, no attention control."""
    settings = Settings("direct", "ddim", guidance=5.0, attention="none", maps=True)
    edited = edit(model, X, SOURCE, TARGET, grid, settings)
    predictor, z, alpha = model.predict(SOURCE, 1.0), X, grid.alpha
    path = [z]
    for i in range(10):
        eps = predictor.epsilon(z, float(grid.sigma_bar[i]))
        z = alpha[i + 1] * (z / alpha[i] + (grid.sigma_bar[i + 1] - grid.sigma_bar[i]) * eps)
        path.append(z)
    guided = model.predict(TARGET, 5.0)
    for i in range(10, 0, -1):
        eps = guided.epsilon(z, float(grid.sigma_bar[i]))
        z = alpha[i - 1] * (z / alpha[i] + (grid.sigma_bar[i - 1] - grid.sigma_bar[i]) * eps)
    assert torch.allclose(edited.latent, path[-1], rtol=0.0, atol=1e-5)
    assert torch.allclose(edited.x, z, rtol=0.0, atol=1e-4)
    assert torch.equal(edited.source, X)


@pytest.mark.parametrize("name", ["ddim", "stable_belm(3)", "edict(0.93)", "ees25"])
def test_a_pinned_source_stands_on_the_way_up(model, grid, name):
    states = {"up": {}, "source": []}

    def seen(branch, level, x):
        if branch == "up":
            states["up"].setdefault(level, []).append(x)
        elif branch == "source":
            states["source"].append((level, x))

    edited = edit(model, X, SOURCE, TARGET, grid, Settings(formula=name, guidance=4.0, source="pinned"), seen=seen)
    met = [(level, x) for level, x in states["source"] if level in states["up"] and level in grid.sigma_bar]
    assert len({level for level, _ in met}) >= 7
    assert all(any(torch.equal(x, other) for other in states["up"][level]) for level, x in met)
    assert edited.source_error == 0.0


def test_at_equal_guidance_source_and_target_of_one_prompt_are_one(model, grid):
    """Offset 0: with guidance up as down the exact source needs no correction, and the target under its prompt is the source."""
    for attention in ("none", "replace", "refine"):
        settings = Settings("direct", "stable_belm(3)", guidance=4.0, guidance_up=4.0, attention=attention, maps=True)
        edited = edit(model, X, SOURCE, SOURCE, grid, settings)
        assert edited.source_error < 1e-4
        assert torch.allclose(edited.x, edited.source, rtol=0.0, atol=1e-4)


def test_all_methods_make_different_edits(model, grid):
    found = {}
    for name in EDIT_METHODS:
        formula = "ddim" if name in ("null_text", "negative_prompt") else "stable_belm(3)"
        edited = edit(model, X, SOURCE, TARGET, grid, Settings(name, formula, guidance=4.0, self_halvings=0))
        assert bool(edited.x.isfinite().all())
        found[name] = edited
    pairs = [(a, b) for a in found for b in found if a < b]
    assert all(not torch.allclose(found[a].x, found[b].x, atol=1e-3) for a, b in pairs)
    assert found["resample"].source is None and found["direct"].source_error < 1e-4 < found["p2p"].source_error


@pytest.mark.parametrize(
    "settings",
    [
        Settings("p2p", "ddim", reweight={"sits": 3.0}),
        Settings("direct", "stable_belm(3)", blend_words=("auto",), blend_after=0.0),
        Settings("direct", "ees25"),
        Settings("masactrl", "belm(2)"),
        Settings("negative_prompt", "edict(0.93)"),
    ],
    ids=lambda settings: settings.method + settings.formula,
)
def test_pictures_of_other_prompts_go_in_one_batch(model, grid, settings):
    """Each has its own tokens, matrices and words: the edit is what it is alone, to the network's rounding in float32."""
    x, sources, targets = noise(3, 4, 8, 8, dtype=torch.float64), SOURCE * 3, [*TARGET, *LONGER, "a cat sits by zoo"]
    together = edit(model, x, sources, targets, grid, settings)
    alone = [edit(model, x[n : n + 1], sources[:1], targets[n : n + 1], grid, settings).x for n in range(3)]
    assert torch.allclose(together.x, torch.cat(alone), rtol=0.0, atol=2e-4)
    wrong = [edit(model, x[n : n + 1], sources[:1], targets[n - 1 : n or None], grid, settings).x for n in range(3)]
    assert all((x - y).abs().max() > 1e-2 for x, y in zip(together.x.split(1), wrong))


def test_negative_prompt_inversion_takes_the_source_for_no_prompt(model, grid):
    """Its guided source is then unguided, and DDIM's own error is all there is."""
    edited = edit(model, X, SOURCE, SOURCE, grid, Settings("negative_prompt", "ddim", guidance=7.0, attention="none", maps=True))
    plain = edit(model, X, SOURCE, SOURCE, grid, Settings("resample", "ddim", guidance=1.0))
    assert torch.allclose(edited.x, plain.x, rtol=0.0, atol=1e-4)


def test_null_texts_learn_at_the_published_rates_and_at_any_number_of_nodes():
    from vsvf.apps.edit.nulls import rate_and_threshold

    assert rate_and_threshold(0, 50) == (1e-2, 1e-5)
    assert rate_and_threshold(30, 50) == pytest.approx((0.7e-2, 61e-5))
    assert rate_and_threshold(60, 100) == pytest.approx(rate_and_threshold(30, 50))
    assert min(rate_and_threshold(n, 1000)[0] for n in range(1000)) > 0.5e-2  # Adam takes no negative rate


def test_null_texts_bring_the_guided_source_onto_the_path(model, grid):
    """Closer than the guided source without them; the published loss is below its threshold or has fallen."""
    options = {"formula": "ddim", "guidance": 4.0, "attention": "none", "maps": True}
    plain = edit(model, X, SOURCE, SOURCE, grid, Settings("p2p", **options))
    found = edit(model, X, SOURCE, SOURCE, grid, Settings("null_text", **options))
    assert found.source_error < plain.source_error
    assert len(found.losses) == 10 and found.extra >= 30
    with pytest.raises(ValueError, match="formula must be 'ddim'"):
        Settings("null_text", "belm(2)")


# ---- the target's first states, strength, nodes ------------------------------------------------------------------


def test_three_ways_to_start_the_target(model, grid):
    """Without a change of prompt and guidance, "shifted" is "source"; "starter" makes what the starter makes of x_N."""
    base = Settings("direct", "stable_belm(3)", guidance=1.0, attention="none", maps=True, starter="ddim")
    starts = {name: edit(model, X, SOURCE, SOURCE, grid, replace(base, start=name)) for name in ("source", "starter", "shifted")}
    assert torch.allclose(starts["shifted"].x, starts["source"].x, rtol=0.0, atol=1e-5)
    noisiest = starts["source"].latent.values[0]
    again = sample(model.predict(SOURCE, 1.0), noisiest, grid, "stable_belm(3)", starter="ddim", warn=False)
    assert torch.allclose(starts["starter"].x, again.x, rtol=0.0, atol=1e-4)
    assert not torch.allclose(starts["starter"].x, starts["source"].x, atol=1e-3)
    changed = {n: edit(model, X, SOURCE, TARGET, grid, replace(base, guidance=4.0, start=n)) for n in starts}
    assert len({round(float(e.x.sum()), 3) for e in changed.values()}) == 3
    assert changed["starter"].nfe_down == changed["shifted"].nfe_down == changed["source"].nfe_down + 2  # k - 1 more


@pytest.mark.parametrize("name", EXACT[:5] + ("ddim", "ees25"))
def test_strength_begins_at_a_node_with_all_states_there(model, grid, name):
    edited = edit(model, X, SOURCE, TARGET, grid, Settings(formula=name, strength=0.6, guidance=3.0))
    assert edited.node == 6 and edited.source_error < 1e-4
    if name in EXACT:
        assert edited.latent.record.node == 6
        assert len(edited.latent.values) == len(edited.latent.reals) == Sampler(name, grid, 6).steps
    with pytest.raises(ValueError, match="strength"):
        Settings(strength=0.0)
    if name == "stable_belm(3)":
        with pytest.raises(ValueError, match="begin at node 3 or above, got 2"):
            edit(model, X, SOURCE, TARGET, grid, Settings(formula=name, strength=0.2))


def test_progress_counts_nodes_whatever_is_evaluated_between(grid):
    progress = Progress(grid, 8)
    assert [progress(grid.sigma_bar[i]) for i in (8, 7, 4, 0)] == [0.0, 1 / 8, 0.5, 1.0]
    assert progress(0.5 * (grid.sigma_bar[4] + grid.sigma_bar[5])) == 0.5


@pytest.mark.parametrize("name", ["stable_belm(3)", "edict(0.93)", "ees25"])
def test_a_control_ends_at_its_node_in_every_method(model, grid, name):
    """EDICT and Runge-Kutta ask two and three times per node: the control must not end two or three times earlier."""
    from vsvf.integrations.diffusers.attention import Control, attention_control

    levels = []

    class Listen(Control):
        def wants(self, site, moment):
            if site.number == 0 and site.cross and moment.progress < 0.4:
                levels.append(moment.progress)
            return False

    conditions, sampler = Conditions(model, SOURCE, TARGET), Sampler(name, grid, 10)
    up = sampler.up(conditions.scale, X)
    Loop(conditions, Progress(grid, 10))(Branch(up, conditions.source, 1.0, conditions.null), None)
    latent = sampler.latent(up)
    with attention_control(model.pipeline.unet, [Listen()]) as hook:
        loop = Loop(conditions, Progress(grid, 10), hook)
        both = (conditions.source, conditions.target)
        loop(*(Branch(sampler.down(conditions.scale, latent), rows, 3.0, conditions.null) for rows in both))
        assert hook.moment is None
    assert max(levels) == pytest.approx(0.3) and len(set(levels)) >= (3 if name == "stable_belm(3)" else 4) - 1


# ---- masks -------------------------------------------------------------------------------------------------------


def left_half():
    mask = torch.zeros(model_size(), model_size(), dtype=torch.bool)
    mask[:, : model_size() // 2] = True
    return mask


def model_size():
    return 16


@pytest.mark.parametrize("name", EXACT + ("ddim", "ees25"))
def test_outside_a_mask_the_target_is_the_source_to_the_bit(model, grid, name):
    """Whatever the formula, as all states are blended: states and slopes, in every row."""
    assert model.pictures[1:] == (16, 16)
    edited = edit(model, X, SOURCE, TARGET, grid, Settings(formula=name, guidance=4.0), mask=left_half())
    assert torch.equal(edited.x[..., 4:], edited.source[..., 4:])
    assert not torch.allclose(edited.x[..., :4], edited.source[..., :4], atol=1e-3)


def test_blending_the_newest_alone_is_enough_for_one_state_per_node_and_not_for_coupled_methods(model, grid):
    """Rows act pixel by pixel: a state that is blended after every row never sees what was outside. EDICT's first state does."""
    for name, same in (("stable_belm(3)", True), ("edict(0.93)", False)):
        base = Settings(formula=name, guidance=4.0, attention="none")
        both = [edit(model, X, SOURCE, TARGET, grid, replace(base, scope=scope), mask=left_half()) for scope in ("all", "newest")]
        assert torch.equal(both[0].x[..., 4:], both[0].source[..., 4:])
        assert torch.equal(both[1].x[..., 4:], both[1].source[..., 4:]) == same


def test_the_mask_of_a_local_blend_by_hand(model):
    class Seen:
        def coarsest(self):
            source, target = torch.zeros(1, 4, 4, 3), torch.zeros(1, 4, 4, 3)
            source[0, 0, 0, 1], source[0, 3, 3, 2] = 1.0, 5.0
            target[0, 3, 0, 2] = 1.0
            return [source, target]

    blend = LocalBlend(Seen(), (np.eye(3)[1:2], np.eye(3)[2:]), threshold=0.3, after=0.2)
    assert blend.mask(0.1, X) is None
    mask = blend.mask(0.2, X)[0, 0]
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[:4, :4] = expected[4:, :4] = True  # 2 x 2 of 4 x 4 around each corner, doubled
    assert torch.equal(mask, expected)
    with pytest.raises(ValueError, match="needs a word"):
        LocalBlend(Seen(), (np.zeros((1, 3)), np.zeros((1, 3))))
    with pytest.raises(ValueError, match="scope"):
        MaskBlend(mask, "some")


def test_a_mask_on_latents_covers_every_pixel_that_may_change():
    mask = torch.zeros(16, 16)
    mask[5, 6] = 1.0
    found = latent_mask(mask, (16, 16), (8, 8), 2)
    assert found.shape == (2, 1, 8, 8) and found.sum() == 2 and bool(found[1, 0, 2, 3])
    with pytest.raises(ValueError, match=r"mask must be 16 x 16 .* got shape"):
        latent_mask(torch.zeros(8, 8), (16, 16), (8, 8), 1)


# ---- memory, Runge-Kutta, other models ---------------------------------------------------------------------------


def test_without_storage_the_tensors_alive_do_not_grow_with_the_steps(model):
    """Tensors of a state's shape that are alive at the last question of the way up; the pinned path has one more per node."""

    def alive(steps, source):
        grid, counts = Grid.from_schedule(model.schedule, steps, "leading", "smallest", steps_offset=1), []

        def seen(branch, level, x):
            if branch == "up" and level == grid.sigma_bar[-2]:
                gc.collect()
                counts.append(sum(type(t) is torch.Tensor and t.shape == X.shape for t in gc.get_objects()))

        edit(model, X, SOURCE, TARGET, grid, Settings(source=source, cross_until=0.0, self_until=0.0), seen=seen)
        return counts[0]

    assert alive(16, "replay") == alive(8, "replay")
    assert alive(16, "pinned") >= alive(8, "pinned") + 8


def test_a_runge_kutta_walk_has_the_bits_of_integrate_and_ees_steps_back(model, grid):
    from vsvf import integrate

    predictor = model.predict(SOURCE, 1.0)
    for name in TABLEAUS:
        whole, nfe = integrate(predictor, X, grid.sigma_bar, name)
        walk = Walk(predictor, X, grid.sigma_bar, name, torch.float64)
        while not walk.done:
            walk.give(predictor.epsilon(walk.x, walk.sigma_bar))
        assert torch.equal(walk.x, whole) and walk.nfe == nfe
    # a step and the step back: O(h^6) for EES(2,5), O(h^4) for Heun: halving the steps divides by 2^5 and 2^3 over the whole way
    eps = lambda x: torch.sin(x) + 0.3  # noqa: E731
    errors = {}
    for name in ("ees25", "heun"):
        for n in (8, 16):
            nodes, x = torch.linspace(0.5, 2.5, n + 1).double().numpy(), X / 3.0
            for way in (nodes, nodes[::-1]):
                walk = Walk(flat(), x, way, name, torch.float64)
                while not walk.done:
                    walk.give(eps(walk.x))
                x = walk.x
            errors[name, n] = float((x - X / 3.0).abs().max())
    assert errors["ees25", 8] / errors["ees25", 16] > 24.0
    assert 6.0 < errors["heun", 8] / errors["heun", 16] < 20.0


def flat():
    from vsvf.predictors.base import ClosedForm

    return ClosedForm(lambda x, s: x)


def test_class_to_class_on_the_digits_network(generator):
    model = digits()
    pictures, labels = model.own()
    grid = Grid.from_schedule(model.schedule, 8, "leading", "smallest")
    edited = edit(model, pictures[30:32], labels[30:32], [8, 8], grid, Settings("resample", guidance=3.0))
    assert edited.x.shape == (2, 1, 28, 28) and edited.source is None
    mask = torch.zeros(28, 28)
    mask[:, 14:] = 1.0
    kept = edit(model, pictures[30:32], labels[30:32], [8, 8], grid, Settings("resample", guidance=3.0), mask=mask)
    assert float((kept.x - pictures[30:32])[..., :14].abs().max()) < 1e-4
    with pytest.raises(ValueError, match="no cross-attention"):
        edit(model, pictures[:1], labels[:1], [8], grid)


def test_what_cannot_be_edited_is_named(model, grid):
    with pytest.raises(ValueError, match="as many words"):
        edit(model, X, SOURCE, LONGER, grid, Settings(attention="replace"))
    with pytest.raises(ValueError, match="blend word 'dog' is in neither prompt"):
        edit(model, X, SOURCE, TARGET, grid, Settings(blend_words=("dog",)))
    with pytest.raises(ValueError, match="do not differ"):
        edit(model, X, SOURCE, SOURCE, grid, Settings(blend_words=("auto",)))
    with pytest.raises(ValueError, match="'dog' is not in the prompt"):
        edit(model, X, SOURCE, TARGET, grid, Settings(reweight={"dog": 2.0}))
    with pytest.raises(ValueError, match="mask must be 16 x 16"):
        edit(model, X, SOURCE, TARGET, grid, mask=torch.ones(8, 8))
    with pytest.raises(ValueError, match="two ways"):
        edit(model, X, SOURCE, TARGET, grid, Settings(blend_words=("auto",)), mask=left_half())
    with pytest.raises(ValueError, match="unconditional"):
        edit(replace(model, condition="none"), X, SOURCE, TARGET, grid)
    with pytest.raises(ValueError, match="not backward explicit"):
        edit(model, X, SOURCE, TARGET, grid, Settings(formula="deis(2)"))
    for wrong in ({"method": "magic"}, {"start": "there"}, {"source": "none"}, {"cross_until": 2.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Settings(**wrong)
    with pytest.raises(ValueError, match="is Direct Inversion"):
        Settings("p2p", source="pinned")
    assert edit(model, X, SOURCE, LONGER, grid, Settings(guidance=2.0)).tokens[0][1].words == ("a", "red", "cat", "sits")


def test_the_offset_of_direct_inversion_is_guidance_alone_for_an_exact_sampler(model, grid):
    """And the two parts add up to what the published method assigns, for DDIM and for O-BELM."""
    from vsvf.apps.edit.offsets import offsets

    plain, guided = model.predict(SOURCE, 1.0), model.predict(SOURCE, 5.0)
    latent = invert(plain, X, grid, "belm(2)", warn=False)
    path = list(latent.values)
    sample(plain, latent, grid, "belm(2)", callback=lambda step: path.append(step.x.clone()), warn=False)
    found = offsets(Conditions(model, SOURCE, TARGET), path, grid, "belm(2)", 5.0)
    assert found.discretisation.max() < 1e-5 * found.guidance.max() and len(found.total) == 9
    at_equal = offsets(Conditions(model, SOURCE, TARGET), path, grid, "belm(2)", 1.0)
    assert at_equal.guidance.max() == 0.0 and at_equal.total.max() < 1e-5
    ddim = offsets(Conditions(model, SOURCE, TARGET), path, grid, "ddim", 5.0)
    z, levels = path[0], grid.sigma_bar
    step = grid.alpha[9] * (z / grid.alpha[10] + (levels[9] - levels[10]) * guided.epsilon(z, float(levels[10])))
    by_hand = float((path[1] - step).square().mean().sqrt())
    assert ddim.total[0] == pytest.approx(by_hand, rel=1e-4) and ddim.discretisation[0] > 1e-3
    with pytest.raises(ValueError, match="11 states"):
        offsets(Conditions(model, SOURCE, TARGET), path[1:], grid, "ddim", 5.0)
    with pytest.raises(ValueError, match="one state per node"):
        offsets(Conditions(model, SOURCE, TARGET), path, grid, "edict(0.93)", 5.0)
