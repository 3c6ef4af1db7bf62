"""The IR's operators in torch: one file per family, as in `edgeir.ops`; importing this package registers them all."""

from edgeir.training.torch_ops import cast as cast
from edgeir.training.torch_ops import convolution as convolution
from edgeir.training.torch_ops import deform_conv as deform_conv
from edgeir.training.torch_ops import elementwise as elementwise
from edgeir.training.torch_ops import grid_sample as grid_sample
from edgeir.training.torch_ops import indexing as indexing
from edgeir.training.torch_ops import integer as integer
from edgeir.training.torch_ops import logarithmic as logarithmic
from edgeir.training.torch_ops import logical as logical
from edgeir.training.torch_ops import matmul as matmul
from edgeir.training.torch_ops import normalization as normalization
from edgeir.training.torch_ops import pooling as pooling
from edgeir.training.torch_ops import quantization as quantization
from edgeir.training.torch_ops import recurrent as recurrent
from edgeir.training.torch_ops import reduction as reduction
from edgeir.training.torch_ops import resize as resize
from edgeir.training.torch_ops import roi_align as roi_align
from edgeir.training.torch_ops import shape as shape
