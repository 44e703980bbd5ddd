"""The training's loss of the scenes model, against the same by hand."""

import pytest
import torch

pytest.importorskip("diffusers")

from training.scenes_model import alphas_sigmas
from training.train_scenes import SNR_CAP, Batch, noise_loss


class Nothing(torch.nn.Module):
    """A network that answers 0 and remembers what it was asked."""

    def forward(self, noisy, t, words, return_dict):
        self.noisy, self.t = noisy, t
        return (torch.zeros_like(noisy),)


@pytest.mark.parametrize("weight", [1.0, 5.0])
def test_the_loss_is_the_weighted_mean_of_squared_noise(weight):
    x0 = torch.randn(16, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    digits = torch.zeros(16, 1, 16, 16)
    digits[:, :, 3:7, 5:9] = 1.0
    nothing, no_words = Nothing(), torch.zeros(16, 1, 1)
    batch = Batch(x0, no_words, digits, torch.ones(16, dtype=torch.bool), torch.zeros(16, 8))
    loss = noise_loss(nothing, no_words, batch, torch.Generator().manual_seed(2), weight)
    alphas, sigmas = (table[nothing.t].double() for table in alphas_sigmas())
    noise = (nothing.noisy.double() - alphas[:, None, None, None] * x0.double()) / sigmas[:, None, None, None]
    squares = noise.square().mean(1)
    squares[:, 3:7, 5:9] *= weight
    ratio = (alphas / sigmas) ** 2
    by_hand = (squares.mean((1, 2)) * (1 + ratio.clamp(max=SNR_CAP)) / ratio).mean()
    assert float(loss) == pytest.approx(float(by_hand), rel=1e-6)
