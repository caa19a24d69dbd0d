"""The GANs and auto-encoders: each true to its own paper."""

import importlib
import math

import pytest
import torch
from torch import nn

from generators import NETWORKS
from generators.networks import began, lsgan, pggan, ppca, vae, wae, wgan, wgan_gp
from generators.training.adversarial import Recipe, gradient_penalty
from pipeline.errors import UserError

pytestmark = pytest.mark.numbers
GANS = [
    name
    for name in NETWORKS
    if isinstance(importlib.import_module(f"generators.networks.{name}").RECIPE, Recipe)
]


@pytest.fixture(params=GANS)
def gan(request):
    return importlib.import_module(f"generators.networks.{request.param}")


@pytest.mark.parametrize("channels", [1, 3])
def test_generator_and_critic_agree_on_64_pixels(gan, channels):
    generator = gan.RECIPE.generator(channels=channels, width=4).eval()
    critic = gan.RECIPE.critic(channels=channels, width=4)
    images = generator(torch.randn(3, generator.latent))
    assert images.shape == (3, channels, 64, 64)
    assert critic(images).shape == (3,)


def test_one_latent_gives_one_image_alone_or_in_a_batch(gan):
    generator = gan.RECIPE.generator(channels=1, width=8).eval()
    z = torch.randn(5, generator.latent)
    with torch.inference_mode():
        together = generator(z)
        alone = torch.cat([generator(one[None]) for one in z])
    assert (together - alone).abs().max() < 1 / 127.5  # one grey level


@pytest.mark.parametrize("gan", [name for name in GANS if name != "began"], indirect=True)
def test_losses_pull_the_right_way(gan):
    """A critic that is right has a lower loss than one that is wrong; likewise the generator.

    But for BEGAN's, whose score is an error: below.
    """
    real, fake = torch.ones(8, 1, 64, 64), -torch.ones(8, 1, 64, 64)

    class Mean(nn.Module):
        def __init__(self, sign):
            super().__init__()
            self.sign = sign

        def forward(self, images):
            return self.sign * images.mean((1, 2, 3))

    right, wrong = Mean(1.0), Mean(-1.0)
    critic_loss, generator_loss = gan.RECIPE.critic_loss, gan.RECIPE.generator_loss
    assert critic_loss(right, real, fake) < critic_loss(wrong, real, fake)
    assert generator_loss(right, real) < generator_loss(right, fake)


def test_the_papers_networks_are_five_different_ones():
    layouts = {
        name: str(
            importlib.import_module(f"generators.networks.{name}").Generator(channels=1, width=8)
        )
        for name in GANS
    }
    assert len(set(layouts.values())) == len(GANS)


def test_wgan_clips_every_weight_of_the_critic():
    critic = wgan.Critic(channels=1, width=4)
    wgan.clip_weights(critic)
    assert max(p.abs().max() for p in critic.parameters()) <= wgan.CLIP
    assert wgan.RECIPE.critic_steps == 5
    assert isinstance(wgan.rmsprop(critic.parameters(), lr=1e-3), torch.optim.RMSprop)


def test_gradient_penalty_is_zero_for_unit_slope_and_grows_with_slope():
    class Slope(nn.Module):
        def __init__(self, slope):
            super().__init__()
            self.slope = slope

        def forward(self, images):
            return self.slope * images.flatten(1)[:, 0]

    real, fake = torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8)
    assert gradient_penalty(Slope(1.0), real, fake) == pytest.approx(0, abs=1e-6)
    assert gradient_penalty(Slope(3.0), real, fake) == pytest.approx(4, abs=1e-4)


def test_wgan_gp_has_no_batch_norm_in_the_critic():
    critic = wgan_gp.Critic(channels=1, width=4)
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in critic.modules())
    assert wgan_gp.PENALTY == 10


def test_pggan_grows_from_4_to_64_pixels_and_fades_in():
    generator, critic = pggan.Generator(1, 4), pggan.Critic(1, 4)
    seen = []
    for done in (0.0, 0.1, 0.2, 0.4, 0.6, 1.0):
        for network in (generator, critic):
            pggan.grow(network, done)
        images = generator(torch.randn(2, generator.latent))
        assert critic(images).shape == (2,)
        assert pggan.view(torch.zeros(2, 1, 64, 64), generator).shape == images.shape
        seen.append(images.shape[-1])
    assert seen == [4, 8, 16, 32, 64, 64]
    assert generator.alpha == 1.0


def test_pggan_at_the_start_of_a_fade_in_is_the_coarser_image_enlarged():
    generator = pggan.Generator(1, 4)
    z = torch.randn(2, generator.latent)
    generator.level, generator.alpha = 1, 1.0
    coarse = generator(z)
    generator.level, generator.alpha = 2, 0.0
    fine = generator(z)
    torch.testing.assert_close(fine, nn.functional.interpolate(coarse, scale_factor=2))


def test_pggan_normalises_pixels_and_sees_the_spread_of_a_batch():
    x = torch.randn(2, 8, 4, 4) * 7
    norms = pggan.pixel_norm(x).square().mean(1)
    torch.testing.assert_close(norms, torch.ones_like(norms))
    same = torch.ones(4, 3, 4, 4)
    assert pggan.minibatch_std(same)[:, -1].max() < 1e-3
    assert pggan.minibatch_std(torch.randn(4, 3, 4, 4))[:, -1].min() > 0.3


def test_pggan_weights_are_scaled_at_run_time():
    layer = pggan.Equalised(64, 64, 3)
    assert layer.weight.std().item() == pytest.approx(1, abs=0.05)
    assert layer.scale == pytest.approx((2 / (64 * 9)) ** 0.5)


def test_pggan_lays_its_penalty_on_a_quarter_of_the_steps_and_four_times_as_strong():
    class Slope(nn.Module):
        def forward(self, images):
            return 3.0 * images.flatten(1)[:, 0]

    real, fake = torch.zeros(4, 1, 8, 8), torch.zeros(4, 1, 8, 8)
    torch.manual_seed(0)
    losses = torch.stack([pggan.critic_loss(Slope(), real, fake) for _ in range(4000)]).detach()
    without, every = losses.min(), 0.5 * pggan.R1_WEIGHT * 64 / 4 * 9
    assert without == pytest.approx(2 * math.log(2), abs=1e-6)
    carried = (losses - without) > 1e-6
    assert carried.float().mean() == pytest.approx(1 / pggan.R1_EVERY, abs=0.03)
    torch.testing.assert_close(
        losses[carried] - without, torch.full((int(carried.sum()),), pggan.R1_EVERY * every),
        atol=1e-6, rtol=1e-3,
    )  # fmt: skip


def test_a_vae_is_charged_for_what_its_latents_say():
    still, spread = torch.zeros(2, 3), torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert vae.divergence(still, still).tolist() == [0.0, 0.0]
    assert vae.divergence(spread, still).tolist() == [0.5, 0.0]
    # KL of N(0, e) from N(0, 1): (e - 1 - 1) / 2.
    assert vae.divergence(still, spread)[0].item() == pytest.approx((math.e - 2) / 2)


def test_a_vae_learns_to_draw_what_it_is_shown():
    options = {"batch": 16, "width": 4, "lr": 2e-3}
    trainer = vae.RECIPE(options, 1, 64, 0, torch.device("cpu"))
    shown = torch.linspace(-0.9, 0.9, 64).expand(16, 1, 64, 64).contiguous()
    losses = [trainer.step(lambda: shown, number, 0.0)["error"] for number in range(40)]
    assert losses[-1] < losses[0] / 3
    made = trainer.samples(4, 1.0, 64).astype(float)
    assert made.shape == (4, 64, 64, 1)
    assert made[..., 48:, 0].mean() - made[..., :16, 0].mean() > 60  # brighter to the right


def test_an_even_kernel_of_lsgan_reads_every_place_as_often():
    """With an odd one every other pixel is the sum of more products: a checkerboard."""

    def spread(kernel):
        generator = lsgan.Generator(channels=1, width=4, kernel=kernel)
        layer = generator.layers[-5]  # the last of stride 2
        assert layer.stride == (2, 2)
        with torch.no_grad():
            layer.weight.fill_(1.0)
            inside = layer(torch.ones(1, layer.in_channels, 8, 8))[..., 4:12, 4:12]
        assert inside.shape[-1] == 8
        return (inside.max() / inside.min()).item()

    assert spread(4) == pytest.approx(1.0)
    assert spread(3) == pytest.approx(4.0)


class Blind(nn.Module):
    """A critic of BEGAN that brings everything back as one grey value."""

    def __init__(self, grey):
        super().__init__()
        self.grey = grey
        self.register_buffer("k", torch.tensor(0.5))

    def forward(self, images):
        return (images - self.grey).abs().mean((1, 2, 3))


def test_began_brings_photographs_back_and_fakes_not():
    real, fake = torch.ones(4, 1, 64, 64), -torch.ones(4, 1, 64, 64)
    assert began.critic_loss(Blind(1.0), real, fake) == pytest.approx(0 - 0.5 * 2)
    assert began.critic_loss(Blind(-1.0), real, fake) == pytest.approx(2)
    assert began.generator_loss(Blind(1.0), real) < began.generator_loss(Blind(1.0), fake)


def test_began_holds_the_two_errors_in_proportion():
    real, fake = torch.ones(4, 1, 64, 64), -torch.ones(4, 1, 64, 64)
    worse, better = Blind(1.0), Blind(-1.0)
    began.critic_loss(worse, real, fake)  # fakes are the worse: they need no more weight
    began.critic_loss(better, real, fake)
    assert worse.k.item() == pytest.approx(0.5 - began.GAIN * 2)
    assert better.k.item() == pytest.approx(0.5 + began.GAIN * began.DIVERSITY * 2)
    for _ in range(1000):
        began.critic_loss(worse, real, fake)
    assert worse.k.item() == 0.0
    assert "k" in began.Critic(channels=1, width=4).state_dict()  # a run goes on with it


def test_a_waes_discrepancy_is_nought_of_one_distribution_and_grows_away_from_it():
    draw = torch.Generator().manual_seed(0)
    prior, same = (torch.randn(256, 8, generator=draw) for _ in range(2))
    assert abs(wae.mean_discrepancy(prior, same).item()) < 0.02
    assert wae.mean_discrepancy(prior, same + 1).item() > 0.5
    assert wae.mean_discrepancy(prior, 0 * same).item() > 0.5  # collapsed


def test_a_waes_discrepancy_is_the_sum_over_pairs_that_the_paper_has():
    draw = torch.Generator().manual_seed(1)
    x, z = (torch.randn(5, 3, generator=draw, dtype=torch.float64) for _ in range(2))

    def kernel(a, b):
        squared = ((a - b) ** 2).sum().item()
        return sum(6 * scale / (6 * scale + squared) for scale in wae.SCALES)

    expected = 0.0
    for i in range(5):
        for j in range(5):
            own = kernel(x[i], x[j]) + kernel(z[i], z[j])
            expected += (i != j) * own / 20 - 2 * kernel(x[i], z[j]) / 25
    assert wae.mean_discrepancy(x, z).item() == pytest.approx(expected)


def test_a_wae_learns_to_draw_what_it_is_shown():
    trainer = wae.RECIPE({"batch": 16, "width": 4, "lr": 2e-3}, 1, 64, 0, torch.device("cpu"))
    shown = torch.linspace(-0.9, 0.9, 64).expand(16, 1, 64, 64).contiguous()
    losses = [trainer.step(lambda: shown, number, 0.0)["error"] for number in range(40)]
    assert losses[-1] < losses[0] / 3


def test_ppca_draws_faces_of_the_photographs_mean_and_of_what_its_components_keep_of_their_spread():
    draw = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(64 * 64, 2, generator=draw))[0].T
    spread = torch.tensor([6.0, 3.0])
    weights = torch.randn(400, 2, generator=draw)
    weights = torch.linalg.qr(weights - weights.mean(0))[0] * 399**0.5  # uncorrelated
    noise = 0.05 * torch.randn(400, 64 * 64, generator=draw)
    shown = (0.3 + (weights * spread) @ basis + noise).view(8, 50, 1, 64, 64)
    trainer = ppca.RECIPE({"batch": 50, "width": 2}, 1, 64, 0, torch.device("cpu"))
    for number, batch in enumerate(shown):
        trainer.step(lambda batch=batch: batch, number, 0.0)
    assert trainer.noise() == pytest.approx(0.05**2, rel=0.05)
    model = trainer.finished()
    axes = model.linear.weight.T
    assert axes.norm(dim=1).tolist() == pytest.approx(spread.tolist(), rel=0.02)
    assert ((axes @ basis.T).abs().diag() / spread).tolist() == pytest.approx([1, 1], rel=0.02)
    assert model(torch.zeros(1, 2)).mean().item() == pytest.approx(0.3, abs=0.02)


def test_ppca_refuses_a_batch_of_fewer_photographs_than_components():
    with pytest.raises(UserError, match="a batch of 3 has fewer photographs"):
        ppca.RECIPE({"batch": 3, "width": 4}, 1, 64, 0, torch.device("cpu"))
