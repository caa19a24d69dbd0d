"""Adversarial training, the same loop for every GAN: what differs is in each GAN's own file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from generators.training.augment import POLICY, diff_augment
from generators.training.averaged import LatentTrainer
from pipeline.errors import UserError
from pipeline.precision import autocast, measured
from pipeline.seeds import seed_for

CriticLoss = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]
GeneratorLoss = Callable[[nn.Module, torch.Tensor], torch.Tensor]


def nothing(*_: Any) -> None:
    """Do nothing: the default of a recipe's hooks."""


@dataclass(frozen=True)
class Recipe:
    """How one GAN is trained, after its own paper.

    Attributes:
        generator: class of the generator, `latent` is its number of latents.
        critic: class of the critic (discriminator).
        critic_loss: (critic, real, fake) -> scalar to minimise.
        generator_loss: (critic, fake) -> scalar to minimise.
        optimizer: parameters, lr -> optimizer, for either network.
        critic_steps: critic updates per generator update.
        after_critic_step: called with the critic (weight clipping).
        grow: called with (generator or critic, share of training done) before each step.
        view: (photographs, generator) -> photographs as the critic is to see them.
    """

    generator: type[nn.Module]
    critic: type[nn.Module]
    critic_loss: CriticLoss
    generator_loss: GeneratorLoss
    optimizer: Callable[..., torch.optim.Optimizer]
    critic_steps: int = 1
    after_critic_step: Callable[[nn.Module], None] = nothing
    grow: Callable[[nn.Module, float], None] = nothing
    view: Callable[[torch.Tensor, nn.Module], torch.Tensor] = lambda real, generator: real

    def __call__(
        self, options: Mapping[str, Any], channels: int, size: int, seed: int, device: torch.device
    ) -> GanTrainer:
        """Make a trainer.

        Raises:
            UserError: photographs of another size than the networks', or an unknown option.
        """
        return GanTrainer(self, options, channels, size, seed, device)


def gradient_penalty(critic: nn.Module, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Mean of (||grad_x critic(x)||_2 - 1)^2 on random points between real and fake.

    Gulrajani et al. 2017, "Improved Training of Wasserstein GANs", eq. 3. Computed in float32: the
    second derivative loses too much in bf16. The points come from torch's global generator, which
    `GanTrainer.step` seeds.
    """
    share = torch.rand(len(real), 1, 1, 1).to(real.device)
    points = (share * real.float() + (1 - share) * fake.detach().float()).requires_grad_(True)
    with torch.autocast(points.device.type, enabled=False):
        scores = critic(points)
        (gradient,) = torch.autograd.grad(scores.sum(), points, create_graph=True)
    return ((gradient.flatten(1).norm(2, dim=1) - 1) ** 2).mean()


class GanTrainer(LatentTrainer):
    """Generator, its moving average, critic and optimizers; `step` makes one generator update."""

    parts = ("generator", "average", "critic", "generator_optimizer", "critic_optimizer")

    def __init__(
        self, recipe: Recipe, options: Mapping[str, Any], channels: int, size: int, seed: int,
        device: torch.device,
    ) -> None:  # fmt: skip
        super().__init__(recipe.generator, options, channels, size, seed, device)
        self.recipe = recipe
        self.critic_steps = int(options.get("critic_steps", recipe.critic_steps))
        self.policy = tuple(options.get("augment", POLICY))
        if unknown := sorted(set(self.policy) - set(POLICY)):
            raise UserError(f"augment: {unknown} is unknown; expected some of {', '.join(POLICY)}")
        self.critic = recipe.critic(**self.config).to(**self.layout)
        lr = float(options["lr"])
        self.generator_optimizer = recipe.optimizer(self.generator.parameters(), lr=lr)
        self.critic_optimizer = recipe.optimizer(
            self.critic.parameters(), lr=float(options.get("critic_lr", lr))
        )

    def grow(self, network: nn.Module, done: float) -> None:
        """Let a network grow as the recipe has it: see `LatentTrainer.grow`."""
        self.recipe.grow(network, done)

    @property
    def images_per_step(self) -> int:
        """Photographs shown to the critic in one `step`."""
        return self.batch * self.critic_steps

    def step(self, draw: Callable[[], torch.Tensor], number: int, done: float) -> dict[str, float]:
        """Make `critic_steps` critic updates and one generator update (`Trainer.step`).

        Returns:
            The last losses of critic and generator.
        """
        seed = seed_for(self.seed, "step", number)
        random = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        for network in (self.generator, self.average, self.critic):
            self.grow(network, done)

        self.critic.requires_grad_(True)
        for _ in range(self.critic_steps):
            real = self.recipe.view(draw().to(self.device), self.generator)
            with autocast(self.device, measured(self.device)):
                with torch.no_grad():
                    fake = self.generator(self.latents(random))
                critic_loss = self.recipe.critic_loss(
                    self.critic,
                    diff_augment(real, random, self.policy),
                    diff_augment(fake.float(), random, self.policy),
                )
            self.critic_optimizer.zero_grad(set_to_none=True)
            critic_loss.backward()
            self.critic_optimizer.step()
            self.recipe.after_critic_step(self.critic)

        # The critic's own gradients are not needed for the generator's update.
        self.critic.requires_grad_(False)
        with autocast(self.device, measured(self.device)):
            fake = self.generator(self.latents(random))
            generator_loss = self.recipe.generator_loss(
                self.critic, diff_augment(fake.float(), random, self.policy)
            )
        self.generator_optimizer.zero_grad(set_to_none=True)
        generator_loss.backward()
        self.generator_optimizer.step()
        self.update_average(self.generator, number)
        return {"critic": critic_loss.item(), "generator": generator_loss.item()}
