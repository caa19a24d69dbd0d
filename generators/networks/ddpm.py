"""DDPM and DDIM: Ho et al. 2020 (arXiv 2006.11239), Song et al. 2021 (arXiv 2010.02502).

The network is a diffusers `UNet2DModel`, trained to predict v (Salimans and Ho 2022) on the cosine
schedule with zero terminal SNR (Lin et al. 2024), so that few deterministic DDIM steps are enough.
What is written is a diffusers pipeline folder that anyone can load with
`DDIMPipeline.from_pretrained`. `PAPER` lists what differs from Ho et al.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMScheduler, UNet2DModel
from torch.nn import functional as F

from generators.base import file_sha256
from generators.training.averaged import AveragedTrainer
from generators.training.differences import Paper
from generators.training.trainer import seed_batches, write_card
from pipeline.precision import autocast, measured
from pipeline.seeds import seed_for

SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
}
PAPER = Paper(
    "Ho et al. 2020 (arXiv 2006.11239)",
    (
        "cosine schedule (Nichol and Dhariwal 2021) with zero terminal SNR (Lin et al. 2024); the "
        "paper: linear betas from 1e-4 to 0.02",
        "predicts v (Salimans and Ho 2022), its mean square error (the paper: the noise)",
        "sampled by deterministic DDIM on trailing timesteps, x0 clipped at each; their number is "
        "`steps` of the entry (the paper: all 1,000, ancestral)",
        "attention at the lowest resolution only, no dropout, AdamW without decay, gradients "
        "clipped at norm 1",
    ),
    # Of its smallest pictures, 32x32: 800,000 steps.
    values={
        "images": 102_400_000,
        "batch": 128,
        "widths": [128, 256, 256, 256],
        "layers_per_block": 2,
        "lr": 2e-4,
    },
    defaults={"ema_images": 20000, "layers_per_block": 1},
    average="decay 0.9999 a step",
    augmented=False,
    batch_norm=False,
)


LOOKED_AT_STEPS = 25  # of DDIM, for the images that a training is looked at by


class DdpmTrainer(AveragedTrainer):
    """U-Net, its moving average and optimizer; `step` makes one update."""

    parts = ("unet", "average", "optimizer")

    def __init__(
        self, options: Mapping[str, Any], channels: int, size: int, seed: int, device: torch.device
    ) -> None:
        super().__init__(options, seed, device, PAPER.defaults["ema_images"])
        widths = tuple(int(width) for width in options["widths"])
        depth = len(widths)
        self.unet = UNet2DModel(
            sample_size=size,
            in_channels=channels,
            out_channels=channels,
            layers_per_block=int(
                options.get("layers_per_block", PAPER.defaults["layers_per_block"])
            ),
            block_out_channels=widths,
            down_block_types=("DownBlock2D",) * (depth - 1) + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (depth - 1),
            norm_num_groups=8,
        ).to(**self.layout)
        self.average = copy.deepcopy(self.unet).eval().requires_grad_(False)
        self.schedule = DDPMScheduler(**SCHEDULE)
        self.optimizer = torch.optim.AdamW(
            self.unet.parameters(), lr=float(options["lr"]), weight_decay=0.0
        )

    def step(self, draw: Callable[[], torch.Tensor], number: int, done: float) -> dict[str, float]:
        """Make one update on a batch of photographs, float (N, C, H, W) in [-1, 1]."""
        del done
        random = torch.Generator().manual_seed(seed_for(self.seed, "step", number))
        real = draw()
        noise = torch.randn(real.shape, generator=random)
        times = torch.randint(0, self.schedule.config.num_train_timesteps, (len(real),),
                              generator=random)  # fmt: skip
        noisy = self.schedule.add_noise(real, noise, times).to(self.device)
        target = self.schedule.get_velocity(real, noise, times).to(self.device)
        with autocast(self.device, measured(self.device)):
            predicted = self.unet(
                noisy.contiguous(memory_format=torch.channels_last), times.to(self.device)
            ).sample
        loss = F.mse_loss(predicted.float(), target)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        self.optimizer.step()
        self.update_average(self.unet, number)
        return {"loss": loss.item()}

    def pipeline(self) -> DDIMPipeline:
        """Return the averaged network as a pipeline with a deterministic DDIM scheduler."""
        scheduler = DDIMScheduler(**SCHEDULE, timestep_spacing="trailing", clip_sample=True)
        pipe = DDIMPipeline(unet=copy.deepcopy(self.average), scheduler=scheduler)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    @torch.inference_mode()
    def samples(self, count: int, done: float, side: int) -> np.ndarray:
        """Make images of the network's size: see `Trainer.samples`."""
        del done, side
        pipe, made = self.pipeline().to(self.device), []
        for seeds in seed_batches(count):
            random = [torch.Generator().manual_seed(seed) for seed in seeds]
            found = pipe(len(seeds), random, num_inference_steps=LOOKED_AT_STEPS, output_type="np")
            made.append(np.rint(found.images * 255).astype(np.uint8))
        return np.concatenate(made)

    def save(self, out: Path, name: str, card: Mapping[str, Any]) -> None:
        """Write the folder `<name>` as diffusers does, its card in it: see `Trainer.save`."""
        folder, temporary = out / name, out / f".{name}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        self.pipeline().save_pretrained(temporary, safe_serialization=True)
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        digests = {path.relative_to(temporary).as_posix(): file_sha256(path) for path in files}
        write_card(temporary / "card.json", {**card, "adapter": "diffusers", "files": digests})
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)


RECIPE = DdpmTrainer
