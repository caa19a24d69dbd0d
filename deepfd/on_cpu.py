"""The frozen networks on a CPU: their layers laid out by OpenVINO, twice as fast as PyTorch's.

PyTorch runs a layer at a time and writes each layer's maps to memory. OpenVINO (Apache 2.0) joins a
convolution with its padding, what follows it and the sum of a block, and keeps channels in blocks
of the processor's registers. The numbers are those of PyTorch but for rounding, the same bits on
any number of threads and in any company (docs/research.md, 6, "Frozen networks by OpenVINO").
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from deepfd.efficientnet import Block, EfficientNet, Padded, install
from pipeline import cores
from pipeline.errors import UserError

if TYPE_CHECKING:
    from openvino import Node

# Pictures at a time, whose maps then lie in a core's cache.
BATCH = 4

# float32 (N, C, S, S) to the outputs of a network, float32 each.
Compiled = Callable[[Tensor], tuple[Tensor, ...]]


@cache
def _openvino() -> ModuleType:
    """Import OpenVINO without its telemetry, which would report each import to its makers.

    Raises:
        UserError: it is not installed.
    """
    name = "openvino_telemetry"
    before = sys.modules.get(name)
    sys.modules[name] = None  # OpenVINO then uses a stub of its own
    try:
        import openvino
    except ModuleNotFoundError:
        raise UserError(f"the package openvino is missing; {install('openvino')}") from None
    finally:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
    return openvino


def _operations() -> ModuleType:
    """Return what networks are laid out of."""
    _openvino()
    from openvino import opset13

    return opset13


def _compiled(inputs: Node, outputs: list[Node]) -> Compiled:
    """Make a layout ready to run, on as many threads as torch has."""
    openvino = _openvino()
    # fp32 wherever it runs: by itself it takes bf16 on processors that are fast at it.
    config = {
        # No more than there are cores: memory was damaged after three on two (docs/research.md).
        "INFERENCE_NUM_THREADS": min(torch.get_num_threads(), cores.available()),
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # pinned, processes side by side would share one core
    }
    run = openvino.Core().compile_model(openvino.Model(outputs, [inputs]), "CPU", config)

    def call(x: Tensor) -> tuple[Tensor, ...]:
        n = len(x)
        # The last few are filled up, so that each is computed alike.
        x = torch.cat([x, x[:1].expand(-n % BATCH, -1, -1, -1)])
        # The outputs' memory is written anew for the next.
        parts = [
            [one.copy() for one in run(part.contiguous().numpy()).values()]
            for part in x.split(BATCH)
        ]
        return tuple(
            torch.from_numpy(np.concatenate(several)[:n]) for several in zip(*parts, strict=True)
        )

    return call


def efficientnet(
    network: EfficientNet, side: int, read: Callable[[list[tuple[Node, Node]]], list[Node]]
) -> Compiled:
    """Lay out a frozen network for pictures of one side.

    Args:
        network: its layers and weights.
        side: of the pictures, which have three channels.
        read: turns what `EfficientNet.forward` returns, as nodes, into the nodes of the outputs.
    """
    ops = _operations()
    x = ops.parameter((BATCH, 3, side, side), np.float32)
    y, blocks = _convolved(network.stem, x, bounded=True), []
    for block in network.blocks:
        blocks.append(_block(block, y))
        y = blocks[-1][0]
    return _compiled(x, read(blocks))


def _block(block: Block, x: Node) -> tuple[Node, Node]:
    """Lay out what `Block.forward` does."""
    wide = x if block.widen is None else _convolved(block.widen, x, bounded=True)
    before = _convolved(block.depthwise, wide, bounded=True)
    after = _convolved(block.project, before)
    return (_operations().add(after, x) if block.residual else after), before


def _convolved(conv: Padded, x: Node, bounded: bool = False) -> Node:
    """Lay out a convolution with its padding and bias; ReLU6 after it if it is `bounded`."""
    ops = _operations()
    weight, bias = (one.detach().numpy() for one in (conv.weight, conv.bias))
    left, right, top, bottom = conv.margins
    places = (list(conv.stride), [top, left], [bottom, right], list(conv.dilation))
    if conv.groups == 1:
        y = ops.convolution(x, ops.constant(weight), *places)
    else:  # (groups, outputs of each, inputs of each, height, width)
        grouped = weight.reshape(conv.groups, -1, *weight.shape[1:])
        y = ops.group_convolution(x, ops.constant(grouped), *places)
    y = ops.add(y, ops.constant(bias.reshape(1, -1, 1, 1)))
    return ops.clamp(y, 0.0, 6.0) if bounded else y


def mean(x: Node) -> Node:
    """Lay out the mean of each channel over all places: (N, C)."""
    ops = _operations()
    return ops.reduce_mean(x, ops.constant(np.array([2, 3])), keep_dims=False)


def spread(x: Node) -> Node:
    """Lay out the standard deviation of each channel over all places: (N, C)."""
    ops = _operations()
    axes = ops.constant(np.array([2, 3]))
    away = ops.subtract(x, ops.reduce_mean(x, axes, keep_dims=True))
    return ops.sqrt(ops.reduce_mean(ops.multiply(away, away), axes, keep_dims=False))


def beside(several: list[Node]) -> Node:
    """Lay out what joins several (N, C) to one."""
    return _operations().concat(several, 1)
