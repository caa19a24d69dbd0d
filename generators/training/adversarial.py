"""Adversarial training, the same loop for every GAN: what differs is in each GAN's own file."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from generators.base import file_sha256, latents
from generators.training.augment import POLICY, diff_augment
from generators.training.trainer import Trainer, seed_batches, write_card
from pipeline import images
from pipeline.errors import UserError
from pipeline.precision import autocast, measured
from pipeline.seeds import seed_for

# Half-life of the moving average of the weights, in images.
EMA_IMAGES = 5000
# The networks of networks/ make images of this side, in pixels.
SIDE = 64
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
        if size != SIDE:
            raise UserError(
                f"a GAN of this repository makes {SIDE}x{SIDE} images, the profile's faces.size is "
                f"{size}; set it to {SIDE}"
            )
        return GanTrainer(self, options, channels, seed, device)


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


class GanTrainer(Trainer):
    """Generator, its moving average, critic and optimizers; `step` makes one generator update."""

    def __init__(
        self, recipe: Recipe, options: Mapping[str, Any], channels: int, seed: int,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.recipe, self.seed, self.device = recipe, seed, device
        self.batch = int(options["batch"])
        self.critic_steps = int(options.get("critic_steps", recipe.critic_steps))
        self.ema_images = float(options.get("ema_images", EMA_IMAGES))
        self.policy = tuple(options.get("augment", POLICY))
        if unknown := sorted(set(self.policy) - set(POLICY)):
            raise UserError(f"augment: {unknown} is unknown; expected some of {', '.join(POLICY)}")
        self.config = {"channels": channels, "width": int(options["width"])}
        torch.manual_seed(seed_for(seed, "weights"))
        layout = {"device": device, "memory_format": torch.channels_last}
        self.generator = recipe.generator(**self.config).to(**layout)
        self.critic = recipe.critic(**self.config).to(**layout)
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        lr = float(options["lr"])
        self.generator_optimizer = recipe.optimizer(self.generator.parameters(), lr=lr)
        self.critic_optimizer = recipe.optimizer(
            self.critic.parameters(), lr=float(options.get("critic_lr", lr))
        )

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
            self.recipe.grow(network, done)

        self.critic.requires_grad_(True)
        for _ in range(self.critic_steps):
            real = self.recipe.view(draw().to(self.device), self.generator)
            with autocast(self.device, measured(self.device)):
                with torch.no_grad():
                    fake = self.generator(self._latents(random))
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
            fake = self.generator(self._latents(random))
            generator_loss = self.recipe.generator_loss(
                self.critic, diff_augment(fake.float(), random, self.policy)
            )
        self.generator_optimizer.zero_grad(set_to_none=True)
        generator_loss.backward()
        self.generator_optimizer.step()
        self._update_average(number)
        return {"critic": critic_loss.item(), "generator": generator_loss.item()}

    def _latents(self, random: torch.Generator) -> torch.Tensor:
        return torch.randn(self.batch, self.generator.latent, generator=random).to(self.device)

    @torch.no_grad()
    def _update_average(self, number: int) -> None:
        # A short memory at first, so that the average does not remember the random start.
        seen = (number + 1) * self.batch
        decay = 0.5 ** (self.batch / min(self.ema_images, max(seen * 0.1, 1)))
        ours, theirs = list(self.average.parameters()), list(self.generator.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - decay)
        for mine, other in zip(self.average.buffers(), self.generator.buffers(), strict=True):
            mine.copy_(other)

    def state(self) -> dict[str, Any]:
        """Return everything that a later run needs to go on as if never interrupted."""
        return {
            "generator": self.generator.state_dict(),
            "average": self.average.state_dict(),
            "critic": self.critic.state_dict(),
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a saved `state`."""
        for name, part in state.items():
            getattr(self, name).load_state_dict(part)

    @torch.inference_mode()
    def samples(self, count: int, done: float, side: int) -> np.ndarray:
        """Make images: see `Trainer.samples`."""
        model, made = self.finished(done), []
        for seeds in seed_batches(count):
            found = model(latents(seeds, (model.latent,)).to(self.device))
            found = torch.nn.functional.interpolate(found, size=side)  # nearest: no pixel is new
            made.append(images.from_unit(found.float().cpu().numpy()))
        return np.concatenate(made)

    def save(self, out: Path, name: str, card: Mapping[str, Any]) -> None:
        """Write `<name>.safetensors` and `<name>.json`: see `Trainer.save`."""
        weights, temporary = out / f"{name}.safetensors", out / f".{name}.safetensors.tmp"
        state = self.finished().state_dict()
        save_file({key: value.cpu().contiguous() for key, value in state.items()}, temporary)
        temporary.replace(weights)
        own = {"adapter": name, "config": self.config, "sha256": file_sha256(weights)}
        write_card(weights.with_suffix(".json"), {**card, **own})

    @torch.no_grad()
    def finished(self, done: float = 1.0) -> nn.Module:
        """Return the averaged generator, its batch statistics measured anew on 2,048 latents.

        Args:
            done: share of the training so far, of which a growing network has its resolution.
        """
        model = copy.deepcopy(self.average)
        self.recipe.grow(model, done)
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if norms:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # a plain mean over what follows
                norm.train()
            random = torch.Generator().manual_seed(seed_for(self.seed, "statistics"))
            for _ in range(2048 // 64):
                model(torch.randn(64, model.latent, generator=random).to(self.device))
        return model.eval()
