"""Any image pipeline of diffusers, from a local folder or from a pinned revision of a hub.

`weights` is the pipeline's folder, or a card (JSON) with `source`, a hub id, and `revision`.
Weights are safetensors, or `.bin` files read with weights_only=True, as the oldest public pipelines
have them; no code of the pipeline's owner is run.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from huggingface_hub import constants
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from generators.adapters.network import insist
from generators.adapters.options import DiffusersGenerator
from generators.base import file_sha256, load_card, own_noise_only
from pipeline.device import default_device
from pipeline.errors import RetryLater, UserError

CARD = "card.json"
# ScoreSdeVeScheduler.step_correct takes the mean of the gradient's norm over the batch: in a batch
# an image would depend on its neighbours, so these pipelines get one image at a time.
ONE_BY_ONE = ("ScoreSdeVePipeline",)
# These call nothing of the scheduler but set_timesteps and step(generator=...).
PLAIN_LOOP = ("DDPMPipeline", "DDIMPipeline")

diffusers.utils.logging.set_verbosity_error()
diffusers.utils.logging.disable_progress_bar()


def digests(folder: str | Path) -> dict[str, str]:
    """Return sha256 by relative path of a pipeline folder's files, all but its card."""
    folder = Path(folder)
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return {n: file_sha256(folder / n) for n in names if n != CARD and not n.startswith(".")}


def check_folder(folder: Path) -> dict[str, str]:
    """Digest a local pipeline folder and compare it with its card, if it has one.

    The card's `files` maps relative paths to sha256 and names every file of the folder.

    Raises:
        UserError: no pipeline, an unreadable card, or a file that is missing, added or altered.
    """
    if not (folder / "model_index.json").is_file():
        raise UserError(
            f"{folder} holds no model_index.json; expected a folder written by "
            "DiffusionPipeline.save_pretrained"
        )
    found = digests(folder)
    if (folder / CARD).is_file():
        expected = load_card(folder / CARD).get("files")
        if not isinstance(expected, dict):
            raise UserError(f"{folder / CARD} has no `files`: expected sha256 by path; restore it")
        wrong = sorted(n for n in {*found, *expected} if found.get(n) != expected.get(n))
        if wrong:
            raise UserError(
                f"{folder / wrong[0]} is missing, damaged or not of this pipeline: its digest is "
                f"not the one of {CARD}; restore the folder (git checkout) or retrain it"
            )
    return found


def fetch(card: str | Path) -> tuple[Path, str]:
    """Bring the pipeline that a card pins into the hub's local cache.

    Returns:
        The pipeline's folder and `source@revision`.

    Raises:
        UserError: no card, no pinned revision, the hub has it not, or neither has an offline cache.
        RetryLater: the hub cannot be reached now, and the cache lacks it.
    """
    pin = load_card(card)
    source, revision = str(pin.get("source")), str(pin.get("revision"))
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        raise UserError(f"{card} has source {source!r}; expected a hub id, owner/name")
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise UserError(
            f"{card} has revision {revision!r}; expected the 40 hex digits of a commit, so that "
            "next year the same weights come: copy them from the hub's page `Files`, `History`"
        )
    download = diffusers.DiffusionPipeline.download
    try:
        folder = insist(
            lambda: download(source, revision=revision, trust_remote_code=False), Exception
        )
    except Exception as error:  # httpx, huggingface_hub and OSError, as the network pleases
        absent = isinstance(error, RepositoryNotFoundError | RevisionNotFoundError)
        raise (UserError if absent or constants.HF_HUB_OFFLINE else RetryLater)(
            f"{source}@{revision[:8]} could not be fetched ({type(error).__name__}: {error}); "
            f"offline: fetch it where there is a network (hf download {source} --revision "
            f"{revision} --local-dir DIR) and set `weights: DIR`, or bring the hub's cache and set "
            "HF_HUB_OFFLINE=1"
        ) from None
    return Path(folder), f"{source}@{revision}"


def _undo_default_scale(pipe: diffusers.DiffusionPipeline, folder: Path) -> float | None:
    """Let an unconditional latent pipeline from before `scaling_factor` decode latents as they are.

    LDMPipeline divides by `vqvae.config.scaling_factor` since diffusers 0.22. A vqvae saved before
    there was such a key was trained and sampled without it (CompVis/ldm-celebahq-256), but gets the
    class's default, that of another model (diffusers issue 6725).

    Returns:
        What latents are divided by, None for a pipeline of another kind.
    """
    if not hasattr(pipe, "vqvae"):
        return None
    if "scaling_factor" not in json.loads((folder / "vqvae" / "config.json").read_text()):
        pipe.vqvae.register_to_config(scaling_factor=1.0)
    return float(pipe.vqvae.config.scaling_factor)


class Diffusion:
    """An unconditional or text-to-image pipeline with one random generator per image."""

    def __init__(self, options: DiffusersGenerator) -> None:
        """Check, load and place the pipeline.

        Raises:
            UserError: absent, damaged, not pinned, not in safetensors, not an image pipeline,
                prompts or scheduler that do not fit.
        """
        folder = Path(options.weights)
        if folder.is_dir():
            weights: Any = check_folder(folder)
        elif folder.suffix == ".json":
            folder, weights = fetch(folder)
        else:
            raise UserError(
                f"{folder} not found; expected a folder written by save_pretrained, or a card "
                "(.json) that pins a revision of a hub: restore or train it, or mend `weights`"
            )
        try:
            pipe = diffusers.DiffusionPipeline.from_pretrained(
                folder,
                dtype=getattr(torch, options.dtype),
                local_files_only=True,
                trust_remote_code=False,
            )
        except Exception as error:  # OSError, ValueError, ImportError, AttributeError, safetensors
            raise UserError(
                f"{options.weights} does not load as a diffusers pipeline: {error}; expected the "
                "folders that model_index.json names, with weights in safetensors"
            ) from None
        self._options = options
        self._pipe = pipe
        self._call = self._arguments()
        self._set_scheduler()
        pipe = self._pipe
        scale = _undo_default_scale(pipe, folder)
        latent = getattr(pipe, "vae", None) or getattr(pipe, "vqvae", None)
        self.channels = 3 if latent or self._text else int(pipe.unet.config.in_channels)
        self._spec = {
            "adapter": "diffusers",
            "weights": weights,
            "pipeline": type(pipe).__name__,
            "scheduler": type(pipe.scheduler).__name__,
            "steps": options.steps,
            "dtype": options.dtype,
            "prompts": list(options.prompts),
            **({"latent_scale": scale} if scale else {}),
        }
        pipe.set_progress_bar_config(disable=True)
        pipe.to(default_device())
        for part in (getattr(pipe, "unet", None), latent):
            if part is not None:
                part.to(memory_format=torch.channels_last)

    def _arguments(self) -> Callable[[Sequence[int]], dict[str, Any]]:
        """Tell an unconditional from a text-to-image pipeline by its call's parameters."""
        kind = type(self._pipe).__name__
        parameters = inspect.signature(self._pipe.__call__).parameters
        needed = [
            name
            for name, one in parameters.items()
            if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD
        ]
        self._text = "prompt" in parameters
        known = {"generator", "num_inference_steps", "output_type"}
        if not known <= set(parameters) or set(needed) - {"prompt"}:
            raise UserError(
                f"{self._options.weights} is a {kind}, which makes no images from noise or a "
                f"prompt alone{': it needs ' + ', '.join(needed) if needed else ''}; choose an "
                "unconditional or text-to-image pipeline"
            )
        prompts = self._options.prompts
        if self._text != bool(prompts):
            raise UserError(
                f"{self._options.weights} is a {kind} and has {len(prompts)} prompts; "
                + ("set `prompts`" if self._text else "remove `prompts`: it takes none")
            )
        if self._text:
            return lambda seeds: {"prompt": [prompts[seed % len(prompts)] for seed in seeds]}
        return lambda seeds: {"batch_size": len(seeds)}

    def _set_scheduler(self) -> None:
        """Put the asked scheduler in; without one, DDIM in place of a DDPM of many steps.

        Raises:
            UserError: no such scheduler, or the pipeline's loop gives wrong images with it.
        """
        pipe, name = self._pipe, self._options.scheduler
        if name is None and isinstance(pipe.scheduler, diffusers.DDPMScheduler):
            name = "DDIMScheduler"
        if name is not None:
            kind = getattr(diffusers, name, None)
            if not (inspect.isclass(kind) and issubclass(kind, SchedulerMixin)):
                raise UserError(
                    f"scheduler {name!r} is not a scheduler class of diffusers "
                    f"{diffusers.__version__}; try DDIMScheduler or DDPMScheduler"
                )
            pipe.scheduler = kind.from_config(pipe.scheduler.config)
        if type(pipe).__name__ not in PLAIN_LOOP:
            return
        # DDIMPipeline passes what only DDIM's step takes; else the two loops are the same.
        self._pipe = pipe = diffusers.DDPMPipeline(unet=pipe.unet, scheduler=pipe.scheduler)
        scheduler, probe = pipe.scheduler, torch.ones(1)
        try:
            scheduler.set_timesteps(self._options.steps)
            fits = (
                float(scheduler.init_noise_sigma) == 1.0
                and torch.equal(scheduler.scale_model_input(probe, scheduler.timesteps[0]), probe)
                and "generator" in inspect.signature(scheduler.step).parameters
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(
                f"{type(scheduler).__name__} does not take {self._options.steps} steps: {error}; "
                "mend `steps` or `scheduler`"
            ) from None
        if not fits:
            raise UserError(
                f"{type(scheduler).__name__} scales its input or takes no generator, which a "
                f"{type(pipe).__name__} does not provide for; choose DDIMScheduler, DDPMScheduler "
                "or DPMSolverMultistepScheduler"
            )

    def spec(self) -> dict[str, Any]:
        """Return digests or revision, and every setting of the sampler."""
        return self._spec

    @torch.inference_mode()
    def sample(self, seeds: Sequence[int]) -> torch.Tensor:
        """Return float32 (N, C, H, W) in [-1, 1] on the CPU.

        Raises:
            UserError: the pipeline fails, gives no images, blacks one out, or draws noise that does
                not come from the images' own generators.
        """
        if type(self._pipe).__name__ in ONE_BY_ONE:
            return torch.cat([self._run([seed]) for seed in seeds])
        return self._run(seeds)

    def _run(self, seeds: Sequence[int]) -> torch.Tensor:
        noise = own_noise_only(
            f"{self._options.weights}: {type(self._pipe.scheduler).__name__}",
            "choose a deterministic scheduler (DDIMScheduler)",
        )
        try:
            with noise:
                out = self._pipe(
                    **self._call(seeds),
                    generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                    num_inference_steps=self._options.steps,
                    output_type="pt",
                )
        except torch.OutOfMemoryError:
            raise UserError(
                f"{self._options.weights}: no device memory for batch {len(seeds)}; lower `batch`"
            ) from None
        except (ValueError, TypeError, RuntimeError) as error:
            raise UserError(f"{self._options.weights} fails while sampling: {error}") from None
        images = getattr(out, "images", None)
        # Some pipelines give numpy (N, H, W, C) whatever they are asked for.
        if isinstance(images, np.ndarray):
            images = torch.from_numpy(images).movedim(-1, 1)
        if not (isinstance(images, torch.Tensor) and images.ndim == 4):
            raise UserError(
                f"{self._options.weights} is a {type(self._pipe).__name__} and gives no images "
                f"(N, C, H, W); choose an image pipeline"
            )
        flags = getattr(out, "nsfw_content_detected", None) or []
        if any(flags):
            seed = seeds[list(flags).index(True)]
            raise UserError(
                f"the pipeline's safety checker blacked out seed {seed}; mend `prompts`"
            )
        return (images.float() * 2 - 1).clamp(-1, 1).cpu()
