"""Attention control: what is replaced, what is never touched, what is put back, and what is refused."""

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, SlicedAttnProcessor
from diffusers_models import noise, small_conditional_unet, small_unet

from vsvf.apps.edit.controls import Inject, Mutual, Reweight, SelfCopy, Watch
from vsvf.integrations.diffusers.attention import Control, Moment, attention_control, sites_of

LENGTH = 6
ROLLED, NONE = np.roll(np.eye(LENGTH), 1, axis=0)[None], np.zeros((1, LENGTH))  # every token from its neighbour, none its own
X, TEXT = noise(4, 4, 8, 8), noise(4, LENGTH, 16, seed=1)  # null source, null target, source, target
BATCH = {"source_null": slice(0, 1), "target_null": slice(1, 2), "source": slice(2, 3), "target": slice(3, 4)}


def moment(progress=0.0, **rows):
    return Moment(progress, (8, 8), **(rows or BATCH))


@torch.no_grad()
def called(unet, hook=None, at=None, x=X, text=TEXT):
    if hook is not None:
        hook.moment = at or moment()
    return unet(x, 300, encoder_hidden_states=text).sample


class Everything(Control):
    """Wants every layer and returns what it was given."""

    null = True

    def wants(self, site, moment):
        return True


class Maps(Everything):
    """Keeps what it is shown."""

    def __init__(self):
        self.seen = []

    def maps(self, site, moment, source, target):
        self.seen.append((site, source, target))
        return target


def test_a_control_that_changes_nothing_leaves_every_bit():
    unet = small_conditional_unet()
    plain = called(unet)
    with attention_control(unet, [Everything(), Maps(), Watch()]) as hook:
        assert torch.equal(called(unet, hook), plain)
        hook.moment = None
        with torch.no_grad():
            assert torch.equal(unet(X, 300, encoder_hidden_states=TEXT).sample, plain)


@pytest.mark.parametrize("processor", [None, AttnProcessor()])
def test_replacing_maps_by_a_copy_of_themselves_is_the_layer_to_rounding(processor):
    """The hook's own arithmetic against diffusers'."""

    class Copy(Everything):
        def maps(self, site, moment, source, target):
            return target.clone()

    unet = small_conditional_unet()
    if processor is not None:
        unet.set_attn_processor(processor)
    plain = called(unet)
    with attention_control(unet, [Copy()]) as hook:
        found = called(unet, hook)
    assert torch.equal(found[[0, 2]], plain[[0, 2]])
    assert torch.allclose(found, plain, rtol=0.0, atol=3e-6 if processor is None else 0.0)


def test_maps_sum_to_one_and_have_a_place():
    unet, maps = small_conditional_unet(), Maps()
    with attention_control(unet, [maps]) as hook:
        called(unet, hook)
    sites = {site.name: site for site, _, _ in maps.seen}
    assert {site.place for site in sites.values()} == {"down", "mid", "up"}
    for site, source, target in maps.seen:
        for found in (source, target):
            assert torch.allclose(found.sum(-1), torch.ones(()), atol=1e-6)
            assert found.shape[-1] == (LENGTH if site.cross else found.shape[-2])
            h, w = moment().grid(found.shape[-2])
            assert (h, w) in {(8, 8), (4, 4)}
    with pytest.raises(ValueError, match="48 queries"):
        moment().grid(48)
    assert Moment(0.0, (9, 5)).grid(15) == (5, 3)


@pytest.mark.parametrize(
    "control",
    [
        Inject(ROLLED, NONE, 1.0),
        Inject(np.eye(LENGTH)[None, ::-1] * np.array([1, 0, 1, 1, 0, 1.0]), np.array([[0, 1, 0, 0, 1, 0.0]]), 1.0),
        Reweight(np.linspace(0.0, 2.0, LENGTH)[None]),
        SelfCopy(1.0, 0),
        Mutual(0.0, 0),
    ],
    ids=lambda control: type(control).__name__,
)
def test_source_rows_are_never_touched_and_target_rows_are(control):
    unet = small_conditional_unet()
    plain = called(unet)
    with attention_control(unet, [control]) as hook:
        found = called(unet, hook)
    assert torch.equal(found[[0, 2]], plain[[0, 2]])
    assert not torch.equal(found[3], plain[3])
    assert torch.equal(found[1], plain[1]) != control.null
    assert torch.equal(called(unet), plain)


def test_a_target_equal_to_its_source_stays_equal():
    """Replace and self-attention of identical rows, and mutual attention: the same numbers to rounding."""
    unet = small_conditional_unet()
    x, text = X[[0, 0, 2, 2]], TEXT[[0, 0, 2, 2]]
    plain = called(unet, x=x, text=text)
    half = np.arange(LENGTH) % 2.0
    mixed = Inject(np.diag(1.0 - half)[None], half[None], 1.0)
    for control in (Inject(np.eye(LENGTH)[None], NONE, 1.0), mixed, SelfCopy(1.0, 0), Mutual(0.0, 0)):
        with attention_control(unet, [control]) as hook:
            assert torch.allclose(called(unet, hook, x=x, text=text), plain, rtol=0.0, atol=3e-6)


def test_a_control_stops_where_it_is_told_to():
    unet = small_conditional_unet()
    plain = called(unet)
    with attention_control(unet, [Inject(ROLLED, NONE, 0.4), SelfCopy(0.4)]) as hook:
        assert not torch.equal(called(unet, hook, moment(0.39, **BATCH)), plain)
        assert torch.equal(called(unet, hook, moment(0.4, **BATCH)), plain)
    with attention_control(unet, [SelfCopy(1.0, 4)]) as hook:  # no layer has so few pixels
        assert torch.equal(called(unet, hook), plain)


def test_a_source_that_was_called_before_serves_the_target_after_it():
    unet = small_conditional_unet()
    controls = [Inject(ROLLED, NONE, 1.0), SelfCopy(1.0, 0), Mutual(0.0, 0)]
    with attention_control(unet, controls) as hook:
        both = called(unet, hook)
        alone = called(unet, hook, moment(source_null=slice(0, 1), source=slice(1, 2)), X[[0, 2]], TEXT[[0, 2]])
        after = called(unet, hook, moment(target_null=slice(0, 1), target=slice(1, 2)), X[[1, 3]], TEXT[[1, 3]])
        assert torch.allclose(after, both[[1, 3]], rtol=0.0, atol=3e-6)
        assert torch.allclose(alone, both[[0, 2]], rtol=0.0, atol=3e-6)
        with pytest.raises(ValueError, match="without its source"):
            called(unet, hook, moment(target=slice(0, 1)), X[:1], TEXT[:1])


def test_processors_come_back_after_an_exception():
    unet = small_conditional_unet()
    before = dict(unet.attn_processors)
    with pytest.raises(RuntimeError, match="on the way"), attention_control(unet, [Everything()]):
        assert all(now is not before[name] for name, now in unet.attn_processors.items())
        raise RuntimeError("on the way")
    assert unet.attn_processors == before


def test_what_the_hook_does_not_know_is_an_error():
    unet = small_conditional_unet()
    unet.set_attn_processor(SlicedAttnProcessor(1))
    with pytest.raises(TypeError, match="SlicedAttnProcessor is not known"), attention_control(unet, [Everything()]):
        pass
    unet = small_conditional_unet()
    unet.mid_block.attentions[0].transformer_blocks[0].attn1.residual_connection = True
    with pytest.raises(TypeError, match=r"mid_block.*does not know: it uses residual_connection"):
        sites_of(unet)
    with pytest.raises(ValueError, match="no attention layers"):
        sites_of(small_unet())
    with pytest.raises(ValueError, match="layer must be below"), attention_control(small_conditional_unet(), [Mutual(0.0, 99)]):
        pass
