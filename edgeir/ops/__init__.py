"""The operators: one file per family; importing this package registers them all."""

from edgeir.ops import cast as cast
from edgeir.ops import convolution as convolution
from edgeir.ops import deform_conv as deform_conv
from edgeir.ops import elementwise as elementwise
from edgeir.ops import fused as fused
from edgeir.ops import grid_sample as grid_sample
from edgeir.ops import indexing as indexing
from edgeir.ops import integer as integer
from edgeir.ops import layout as layout
from edgeir.ops import logarithmic as logarithmic
from edgeir.ops import logical as logical
from edgeir.ops import lookup as lookup
from edgeir.ops import matmul as matmul
from edgeir.ops import normalization as normalization
from edgeir.ops import pooling as pooling
from edgeir.ops import quantization as quantization
from edgeir.ops import recurrent as recurrent
from edgeir.ops import reduction as reduction
from edgeir.ops import resize as resize
from edgeir.ops import roi_align as roi_align
from edgeir.ops import shape as shape
