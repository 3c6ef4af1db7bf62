"""Passes, their options as text, pipelines, and instruments around them."""

from edgeir.passmanager.base import Pass
from edgeir.passmanager.bisect import Culprit, find_culprit
from edgeir.passmanager.context import PassContext
from edgeir.passmanager.instruments import Dump, Instrument
from edgeir.passmanager.numeric import Agreement, NumericCheck, compare_outputs, example_inputs
from edgeir.passmanager.options import parse_pass, print_pass
from edgeir.passmanager.pipeline import Pipeline
from edgeir.passmanager.registry import find_pass, register_pass, registered_passes
from edgeir.passmanager.report import PassRecord, PipelineReport
from edgeir.passmanager.reproducer import load_reproducer, save_reproducer

__all__ = [
    "Agreement",
    "Culprit",
    "Dump",
    "Instrument",
    "NumericCheck",
    "Pass",
    "PassContext",
    "PassRecord",
    "Pipeline",
    "PipelineReport",
    "compare_outputs",
    "example_inputs",
    "find_culprit",
    "find_pass",
    "load_reproducer",
    "parse_pass",
    "print_pass",
    "register_pass",
    "registered_passes",
    "save_reproducer",
]
