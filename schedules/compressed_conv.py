"""Convolution with a constant weight that is compressed: integers of 8 or 4 bits, codes of logarithms.

The weight lies packed and compressed in memory (4-bit numbers two in a byte). The kernel first decodes it into a
temporary weight of floats in the form that a float template wants, and the float template does the rest: each weight is
decoded once, and used for every pixel.
"""

from __future__ import annotations

from edgeir.schedules.compressed_packing import DecodingTemplate
from edgeir.schedules.conv_depthwise import ConvDepthwise
from edgeir.schedules.conv_direct import ConvDirect
from edgeir.schedules.conv_pointwise import ConvPointwise


class CompressedConv(DecodingTemplate):
    """Float convolutions whose weight the kernel decodes."""

    name = "compressed-conv"
    templates = (ConvPointwise(), ConvDepthwise(), ConvDirect())
    anchors = ("conv",)
