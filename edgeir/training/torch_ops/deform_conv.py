"""Deformable convolution."""

from __future__ import annotations

import torch

from edgeir.training.torch_ops.registry import Call, Results, torch_op


@torch_op("deform_conv")
def deform_conv(call: Call) -> Results:
    """Sampled patches, then a grouped product with the weights, as the reference."""
    x, w, offset = call.tensor(0), call.tensor(1), call.tensor(2)
    b, mask = call.optional(3), call.optional(4)
    n, channels, height, width = x.shape
    out_channels, _, kh, kw = w.shape
    oh, ow = offset.shape[2:]
    a, device = call.attributes, x.device
    groups, offset_groups = a["groups"], a["offset_groups"]
    offsets = offset.reshape(n, offset_groups, kh * kw, 2, oh, ow)
    taps = torch.meshgrid(torch.arange(kh, device=device), torch.arange(kw, device=device), indexing="ij")
    places = (torch.arange(oh, device=device)[:, None], torch.arange(ow, device=device)[None, :])
    position = [
        places[axis] * a["strides"][axis]
        - a["padding"][axis]
        + taps[axis].reshape(-1, 1, 1) * a["dilations"][axis]
        + offsets[:, :, :, axis]
        for axis in (0, 1)
    ]
    # Channels of one offset group share positions: (N, groups, H, W, channels of a group).
    grouped = x.reshape(n, offset_groups, channels // offset_groups, height, width).movedim(2, -1)
    batch = torch.arange(n, device=device).reshape(-1, 1, 1, 1, 1)
    group = torch.arange(offset_groups, device=device).reshape(1, -1, 1, 1, 1)
    patches = x.new_zeros((n, offset_groups, kh * kw, oh, ow, channels // offset_groups))
    low = [torch.floor(p.detach()).long() for p in position]
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = torch.ones_like(position[0])
        index = []
        for axis, size in enumerate((height, width)):
            at = low[axis] + corner[axis]
            weight = weight * torch.where((at >= 0) & (at < size), 1 - (position[axis] - at).abs(), 0)
            index.append(at.clamp(0, size - 1))
        patches = patches + grouped[batch, group, index[0], index[1]] * weight[..., None]
    if mask is not None:
        patches = patches * mask.reshape(n, offset_groups, kh * kw, oh, ow, 1)
    columns = patches.movedim(-1, 2).reshape(n, groups, -1, oh * ow)
    rows = w.reshape(groups, out_channels // groups, -1)
    y = torch.matmul(rows, columns).reshape(n, out_channels, oh, ow)
    return y if b is None else y + b.reshape(-1, 1, 1)
