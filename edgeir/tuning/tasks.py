"""What there is to tune in a model: its distinct kernels, how often each runs, and which templates can schedule it."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from edgeir.errors import EdgeIRError
from edgeir.ir.graph import Graph, Value
from edgeir.lowering.module import plan
from edgeir.schedules.select import matching
from edgeir.schedules.task import Task
from edgeir.schedules.template import Config, Template
from edgeir.targets.target import Target
from edgeir.tuning.context import Context, target_features
from edgeir.tuning.problem import Problem
from edgeir.tuning.versions import compiler_versions

Space = Mapping[str, Sequence[int | str | bool]]


@dataclass(frozen=True)
class KernelTask:
    """A distinct kernel of a model.

    Attributes:
        name: the kernel's name in the model.
        count: how often the model calls it.
        task: as the templates see it.
        problem: as text, for other processes.
        context: what its records are stored under.
        target: the machine, with the threads that the kernel may use as its cores.
        templates: those that can schedule it, in order of preference.
        spaces: template name → its space.
        default: template name and configuration that are used without tuning.
        others: bytes of the model's other constants, which pass the caches between two runs; as many as surely fill
            the last cache where it does not hold all.
    """

    name: str
    count: int
    task: Task
    problem: Problem
    context: Context
    target: Target
    templates: tuple[Template, ...]
    spaces: Mapping[str, Space]
    default: tuple[str, Config]
    others: int = 0

    @property
    def size(self) -> int:
        """How many configurations there are, over all templates."""
        total = 0
        for space in self.spaces.values():
            size = 1
            for values in space.values():
                size *= len(values)
            total += size
        return total

    def template(self, name: str) -> Template:
        """A matching template by name.

        Raises:
            EdgeIRError: there is none.
        """
        return find_template(self.templates, name, self.name)


def find_template(templates: Sequence[Template], name: str, where: str) -> Template:
    """The template of that name.

    Raises:
        EdgeIRError: there is none.
    """
    for template in templates:
        if template.name == name:
            return template
    names = ", ".join(template.name for template in templates)
    raise EdgeIRError("no such template for this kernel", where=where, expected=names, got=name)


def matching_templates(task: Task, target: Target, extra: Sequence[str] = ()) -> tuple[Template, ...]:
    """The templates that can schedule a task, and further ones.

    Args:
        task: the task.
        target: the machine.
        extra: further templates as `module:attribute`, asked after the others.

    Raises:
        EdgeIRError: a further template cannot be imported.
    """
    further = [imported_template(name) for name in extra]
    return (*matching(task, target), *(template for template in further if template.match(task, target)))


def imported_template(name: str) -> Template:
    """The template that `module:attribute` names.

    Raises:
        EdgeIRError: there is none.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise EdgeIRError("a template cannot be imported", expected="module:attribute", got=name) from error


def context_of(task: Task, target: Target, problem: Problem | None = None) -> Context:
    """What records of a task are stored under; the target's cores are the threads."""
    text = "" if problem is None else problem.to_text()
    return Context(task.key, target_features(target), target.cores, compiler_versions(), text)


def kernel_task(
    problem: Problem, target: Target, name: str = "", count: int = 1, extra: Sequence[str] = ()
) -> KernelTask:
    """The task of a problem.

    Raises:
        EdgeIRError: the operator cannot be compiled.
    """
    task = problem.lowering().task
    templates = matching_templates(task, target, extra)
    spaces = {template.name: template.space(task, target) for template in templates}
    first = templates[0]
    # A template without knobs serves as the last resort; beside one that was made for the task it wastes trials.
    spaces = {key: space for key, space in spaces.items() if space or key == first.name}
    templates = tuple(template for template in templates if template.name in spaces)
    default = (first.name, first.default(task, target))
    return KernelTask(
        name or task.name, count, task, problem, context_of(task, target, problem), target, templates, spaces, default
    )


def kernel_tasks(
    graph: Graph, target: Target, extra: Sequence[str] = (), known: dict[str, KernelTask] | None = None
) -> list[KernelTask]:
    """The distinct kernels of a graph after its passes, in order.

    Args:
        graph: static shapes, fused.
        target: the machine; its cores are the threads that kernels may use.
        extra: further templates, as for `matching_templates`.
        known: text of the computation → its task, of graphs for the same target before this one; filled.

    Raises:
        EdgeIRError: a dimension is symbolic, or an operator cannot be compiled.
    """
    counts: dict[str, int] = {}
    first = {}
    for step in plan(graph, target):
        if step.lowering is not None:
            counts[step.key] = counts.get(step.key, 0) + 1
            first.setdefault(step.key, step)
    constants, cache = constant_bytes(graph.constants), target.l3_bytes or target.l2_bytes
    tasks = []
    for key, step in first.items():
        if known is not None and key in known:
            made = known[key]
        else:
            made = kernel_task(Problem.of_node(step.node), target, extra=extra)
            if made.task.key != key:
                raise EdgeIRError("a kernel does not read back from its text", where=str(step.node))
            if known is not None:
                known[key] = made
        # Where the constants do not fit the last cache, all of them come from memory.
        others = 2 * cache if constants > cache else constants - constant_bytes(step.node.present_inputs)
        tasks.append(replace(made, name=step.lowering.task.name, count=counts[key], others=others))
    return tasks


def constant_bytes(values: Iterable[Value]) -> int:
    """Bytes of the constants among some values, each counted once."""
    return sum(value.data.nbytes for value in dict.fromkeys(values) if value.is_constant)
