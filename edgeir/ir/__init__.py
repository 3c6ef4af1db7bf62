"""The intermediate representation: types, values, nodes, graphs, and their text."""

from edgeir.ir.builder import Builder
from edgeir.ir.dims import Dim, SymbolicDim, symbol
from edgeir.ir.graph import Graph
from edgeir.ir.op import REQUIRED, Attribute, Kind, Op, Pattern, find_op, register
from edgeir.ir.parser import parse_graph
from edgeir.ir.printer import print_graph
from edgeir.ir.statistics import graph_statistics
from edgeir.ir.storage import load_graph, save_graph
from edgeir.ir.types import TensorType
from edgeir.ir.values import Node, Value
from edgeir.ir.verifier import verify

__all__ = [
    "REQUIRED",
    "Attribute",
    "Builder",
    "Dim",
    "Graph",
    "Kind",
    "Node",
    "Op",
    "Pattern",
    "SymbolicDim",
    "TensorType",
    "Value",
    "find_op",
    "graph_statistics",
    "load_graph",
    "parse_graph",
    "print_graph",
    "register",
    "save_graph",
    "symbol",
    "verify",
]
