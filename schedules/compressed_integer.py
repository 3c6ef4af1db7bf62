"""Integer products and depthwise convolutions whose constant right operand is looked up, or has 4 bits.

The codes lie packed in memory (4-bit codes two in a byte), and become int8 in the form that an integer template wants
when the kernel starts.
"""

from __future__ import annotations

from edgeir.schedules.compressed_packing import DecodingTemplate
from edgeir.schedules.integer_depthwise import IntegerDepthwise
from edgeir.schedules.integer_matmul import IntegerMatmul


class CompressedInteger(DecodingTemplate):
    """Depthwise `conv_integer` and `matmul_integer` whose right operand the kernel decodes."""

    name = "compressed-integer"
    templates = (IntegerDepthwise(), IntegerMatmul())
    anchors = ("conv_integer", "matmul_integer")
