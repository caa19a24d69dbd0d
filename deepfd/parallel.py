"""One training step over several processes, as `accelerate launch` starts them.

Every process draws the whole batch, computes its own rows of it, and is given those of the others:
the losses see all pairs of the batch that one process would see, and batch norm sees its
statistics. So a fit is the same, up to rounding, on any number of processes. In a single process
nothing here changes anything, and accelerate is not imported.
"""

from __future__ import annotations

import functools
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pipeline.errors import UserError

if TYPE_CHECKING:
    from accelerate import PartialState

# The others wait for so long while the main process scores and writes.
PATIENCE = timedelta(hours=12)


@functools.cache
def _state() -> PartialState | None:
    """Return accelerate's view of the processes, joined on the first call; None if there is one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    from accelerate import PartialState

    # accelerate joins the processes of a machine without GPUs only if told that this is meant.
    return PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


def is_main() -> bool:
    """Whether this is the process that writes."""
    return (state := _state()) is None or state.is_main_process


def shard(x: Tensor) -> Tensor:
    """Return this process's rows of a batch (N, ...): (N / processes, ...).

    Raises:
        UserError: N is not a multiple of the number of processes.
    """
    if (state := _state()) is None:
        return x
    rows, left = divmod(len(x), state.num_processes)
    if left:
        raise UserError(
            f"a batch of {len(x)} for {state.num_processes} processes; expected a multiple: "
            "change `batch` of the method or the number of processes"
        )
    return x[state.process_index * rows :][:rows]


class _Gather(torch.autograd.Function):
    """All rows from those of each process; the gradient is summed over the processes."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        from accelerate.utils import gather

        return gather(rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        from accelerate.utils import reduce

        return shard(reduce(gradient.contiguous(), "sum"))


def gather(rows: Tensor) -> Tensor:
    """Undo `shard`, with gradient: (N / processes, ...) of each process to (N, ...), in order."""
    return rows if _state() is None else _Gather.apply(rows)


class _BatchNorm2d(nn.BatchNorm2d):
    """Batch norm by the statistics of the whole batch (torch's own needs GPUs for that)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N / processes, C, H, W) to the same shape."""
        if not self.training:
            return super().forward(x)
        values = x.float()
        variance, mean = torch.var_mean(values, dim=(0, 2, 3), unbiased=False)
        means, variances = gather(torch.stack([mean, variance])[None]).unbind(1)  # (processes, C)
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        with torch.no_grad():
            count = len(means) * x.numel() / x.shape[1]
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return (values * scale[:, None, None] + shift[:, None, None]).to(x.dtype)


def prepare(network: nn.Module) -> None:
    """Let every `BatchNorm2d` of a network see the whole batch. Other batch norms are not known."""
    if _state() is not None:
        for module in network.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = _BatchNorm2d  # weights, names, copies: those of the plain one


def average_gradients(network: nn.Module) -> None:
    """Turn the gradients that each process found into those of the whole batch.

    Each computes the same loss, and `gather` sums gradients over them: the mean takes this back.
    """
    if _state() is None:
        return
    from accelerate.utils import reduce

    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    whole = reduce(torch.cat([one.flatten() for one in gradients]), "mean")
    for one, mean in zip(gradients, whole.split([g.numel() for g in gradients]), strict=True):
        one.copy_(mean.view_as(one))
