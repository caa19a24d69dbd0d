"""The frozen networks on a CPU: their layers laid out by OpenVINO, twice as fast as PyTorch's.

PyTorch runs a layer at a time and writes each layer's maps to memory. OpenVINO (Apache 2.0) joins a
convolution with its padding, ReLU6 and the sum of a block, and keeps channels in blocks of the
processor's registers. The numbers are those of `deepfd.efficientnet` but for rounding, the same
bits on any number of threads (docs/research.md, 6, "Frozen networks by OpenVINO").
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepfd.efficientnet import Block, EfficientNet, Padded

if TYPE_CHECKING:
    from openvino import Node

# float32 (N, 3, S, S) to arrays that the caller may keep.
Compiled = Callable[[np.ndarray], list[np.ndarray]]


@cache
def _openvino() -> ModuleType:
    """Import OpenVINO without its telemetry, which would report each import to its makers."""
    name = "openvino_telemetry"
    before = sys.modules.get(name)
    sys.modules[name] = None  # OpenVINO then uses a stub of its own
    try:
        import openvino
    finally:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
    return openvino


def compiled(
    network: EfficientNet, shape: tuple[int, ...], read: Callable[[list[tuple[Node, Node]]], list]
) -> Compiled:
    """Lay out a network for one shape of its input, to run on as many threads as torch has.

    Args:
        network: its layers and weights.
        shape: (N, 3, S, S).
        read: turns what `EfficientNet.forward` returns, as nodes, into the nodes of the outputs.
    """
    openvino = _openvino()
    from openvino import opset13 as ops

    x = ops.parameter(shape, np.float32)
    y, blocks = _convolved(ops, network.stem, x, bounded=True), []
    for block in network.blocks:
        blocks.append(_block(ops, block, y))
        y = blocks[-1][0]
    model = openvino.Model(read(blocks), [x], "EfficientNet")
    # fp32 wherever it runs: by itself it takes bf16 on processors that are fast at it.
    config = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # pinned, processes side by side would share one core
    }
    run = openvino.Core().compile_model(model, "CPU", config)

    def call(x: np.ndarray) -> list[np.ndarray]:
        # The outputs' memory is written anew by the next call.
        return [one.copy() for one in run(x).values()]

    return call


def _block(ops: ModuleType, block: Block, x: Node) -> tuple[Node, Node]:
    """Lay out what `Block.forward` does."""
    wide = x if block.widen is None else _convolved(ops, block.widen, x, bounded=True)
    before = _convolved(ops, block.depthwise, wide, bounded=True)
    after = _convolved(ops, block.project, before)
    return (ops.add(after, x) if block.residual else after), before


def _convolved(ops: ModuleType, conv: Padded, x: Node, bounded: bool = False) -> Node:
    """Lay out a convolution with its padding and bias; ReLU6 after it if it is `bounded`."""
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
    _openvino()
    from openvino import opset13 as ops

    return ops.reduce_mean(x, ops.constant(np.array([2, 3])), keep_dims=False)


def spread(x: Node) -> Node:
    """Lay out the standard deviation of each channel over all places: (N, C)."""
    _openvino()
    from openvino import opset13 as ops

    axes = ops.constant(np.array([2, 3]))
    away = ops.subtract(x, ops.reduce_mean(x, axes, keep_dims=True))
    return ops.sqrt(ops.reduce_mean(ops.multiply(away, away), axes, keep_dims=False))


def beside(several: list[Node]) -> Node:
    """Lay out what joins several (N, C) to one."""
    _openvino()
    from openvino import opset13 as ops

    return ops.concat(several, 1)
