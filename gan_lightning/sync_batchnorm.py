"""Batch normalization by the statistics of all devices, on the CPU too."""

from functools import partial

import torch
from pytorch_lightning.plugins.layer_sync import TorchSyncBatchNorm
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm

from gan_lightning.ranks import stack, world_size


class SyncBatchNorm(TorchSyncBatchNorm):
    """Lightning's plugin, which uses ``torch.nn.SyncBatchNorm``, and :func:`synchronized` where that needs a GPU.

    The weights keep their names. A layer with a ``forward`` of its own is left as it is.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Return the model, whose batch normalization in training mode is over all devices."""
        if dist.get_backend() != "gloo":
            return super().apply(model)
        for module in model.modules():
            if isinstance(module, _BatchNorm) and type(module).forward is _BatchNorm.forward:
                module.forward = partial(synchronized, module)  # type: ignore[method-assign]
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Return the model as it was."""
        for module in model.modules():
            if getattr(getattr(module, "forward", None), "func", None) is synchronized:
                del module.forward
        return super().revert(model)


def synchronized(layer: _BatchNorm, x: Tensor) -> Tensor:
    """Return x (N, C, ...) normalized by a layer; in training mode, by mean and variance over all ranks' equal batches.

    Ioffe & Szegedy, Batch Normalization, 2015, Algorithm 1.
    """
    if not layer.training or world_size() == 1:
        return _BatchNorm.forward(layer, x)
    layer._check_input_dim(x)
    values = x.to(torch.promote_types(x.dtype, torch.float32))
    variance, mean = torch.var_mean(values, [0, *range(2, x.ndim)], correction=0)  # (C,)
    means, variances = stack(torch.stack([mean, variance])).unbind(1)  # (ranks, C)
    mean = means.mean(0)
    variance = (variances + (means - mean).square()).mean(0)
    update_statistics(layer, mean.detach(), variance.detach(), world_size() * x.numel() // x.shape[1])
    scale = (variance + layer.eps).rsqrt()
    scale = scale if layer.weight is None else scale * layer.weight
    shape = [1, -1, *[1] * (x.ndim - 2)]
    normalized = (values - mean.view(shape)) * scale.view(shape)
    return (normalized if layer.bias is None else normalized + layer.bias.view(shape)).to(x.dtype)


def update_statistics(layer: _BatchNorm, mean: Tensor, variance: Tensor, n: int) -> None:
    """Move a layer's running mean and variance toward those of n values for each channel, as torch does."""
    if layer.running_mean is None or layer.running_var is None or layer.num_batches_tracked is None:  # not tracked
        return
    layer.num_batches_tracked.add_(1)
    momentum = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean.to(layer.running_mean.dtype), momentum)
    layer.running_var.lerp_((variance * n / (n - 1)).to(layer.running_var.dtype), momentum)  # unbiased
