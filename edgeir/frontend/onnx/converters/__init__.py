"""Converters of ONNX operators, one file per family. Importing this package registers all of them."""

from edgeir.frontend.onnx.converters import activations as activations
from edgeir.frontend.onnx.converters import arithmetic as arithmetic
from edgeir.frontend.onnx.converters import casts as casts
from edgeir.frontend.onnx.converters import convolution as convolution
from edgeir.frontend.onnx.converters import creation as creation
from edgeir.frontend.onnx.converters import image as image
from edgeir.frontend.onnx.converters import indexing as indexing
from edgeir.frontend.onnx.converters import matrices as matrices
from edgeir.frontend.onnx.converters import normalization as normalization
from edgeir.frontend.onnx.converters import padding as padding
from edgeir.frontend.onnx.converters import pooling as pooling
from edgeir.frontend.onnx.converters import quantization as quantization
from edgeir.frontend.onnx.converters import quantized_operators as quantized_operators
from edgeir.frontend.onnx.converters import rearrangement as rearrangement
from edgeir.frontend.onnx.converters import recurrent as recurrent
from edgeir.frontend.onnx.converters import reductions as reductions
from edgeir.frontend.onnx.converters import regions as regions
from edgeir.frontend.onnx.converters import shapes as shapes
from edgeir.frontend.onnx.converters import signal as signal
from edgeir.frontend.onnx.converters import slicing as slicing
from edgeir.frontend.onnx.converters import softmax as softmax
