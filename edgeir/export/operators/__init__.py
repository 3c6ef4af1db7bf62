"""Exporters, one file per operator family as in `edgeir/ops/`. Importing this package registers all of them."""

from edgeir.export.operators import cast as cast
from edgeir.export.operators import convolution as convolution
from edgeir.export.operators import elementwise as elementwise
from edgeir.export.operators import image as image
from edgeir.export.operators import indexing as indexing
from edgeir.export.operators import integer as integer
from edgeir.export.operators import logical as logical
from edgeir.export.operators import matmul as matmul
from edgeir.export.operators import normalization as normalization
from edgeir.export.operators import pooling as pooling
from edgeir.export.operators import quantization as quantization
from edgeir.export.operators import recurrent as recurrent
from edgeir.export.operators import reduction as reduction
from edgeir.export.operators import shape as shape
