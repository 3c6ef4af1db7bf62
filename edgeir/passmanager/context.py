"""What passes are given beside the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeir.errors import EdgeIRError
from edgeir.ir import Graph, Node
from edgeir.rewrite import RewriteResult, RewriteRule, apply_rules

if TYPE_CHECKING:
    from edgeir.passmanager.instruments import Instrument


@dataclass
class PassContext:
    """Target, data and services for passes, and what the manager does around them.

    Attributes:
        target: the target machine, or None.
        calibration: samples of real inputs, each input name → array.
        seed: of all randomness; `random` makes the generator.
        rewrite_limit: stop rewriting after this many rewrites in all; None for no limit.
        services: callables handed in by name, such as "measured-latency" or "gradients".
        instruments: called around every pass.
        verify: whether the graph is verified after every pass that changed it.
        reproducer_folder: where a failing pass leaves its reproducer; a fresh temporary folder if None.
        keep_reproducer: whether to leave one at all (costs a copy of the graph's structure per pipeline).
        rewrites: rewrites done so far, by rule or pass name.
        refusals: (rule, reason) → how often a match was turned down.
        last_rewrite: name and node of the most recent rewrite.
    """

    target: Any = None
    calibration: Sequence[Mapping[str, np.ndarray]] | None = None
    seed: int = 0
    rewrite_limit: int | None = None
    services: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    instruments: Sequence[Instrument] = ()
    verify: bool = True
    reproducer_folder: Path | str | None = None
    keep_reproducer: bool = True
    rewrites: Counter[str] = field(default_factory=Counter)
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    last_rewrite: tuple[str, str] | None = None

    def permit(self, name: str, node: Node) -> bool:
        """Counts one rewrite; False (and nothing counted) once the limit is used up.

        A pass that edits without rules asks this before each of its edits.
        """
        if self.rewrite_limit is not None:
            if self.rewrites.total() >= self.rewrite_limit:
                return False
            self.last_rewrite = (name, str(node))
        self.rewrites[name] += 1
        return True

    def apply(self, graph: Graph, rules: Sequence[RewriteRule]) -> RewriteResult:
        """Applies rules until none fits, under the rewrite limit."""
        result = apply_rules(graph, rules, self.permit)
        self.refusals.update(result.refused)
        return result

    def random(self) -> np.random.Generator:
        """A fresh generator from the seed; the same for every pass, so that a pass alone repeats what it did."""
        return np.random.default_rng(self.seed)

    def require_target(self, pass_name: str) -> Any:
        """The target.

        Raises:
            EdgeIRError: there is none.
        """
        if self.target is None:
            raise EdgeIRError("no target was given", where=f"pass {pass_name}", hint="set PassContext(target=…)")
        return self.target

    def require_calibration(self, pass_name: str) -> Sequence[Mapping[str, np.ndarray]]:
        """The calibration samples.

        Raises:
            EdgeIRError: there are none.
        """
        if not self.calibration:
            raise EdgeIRError(
                "no calibration data was given",
                where=f"pass {pass_name}",
                expected="a sequence of samples, each input name → array",
                hint="set PassContext(calibration=…)",
            )
        return self.calibration

    def require_service(self, service: str, pass_name: str) -> Callable[..., Any]:
        """The callable handed in under that name.

        Raises:
            EdgeIRError: there is none.
        """
        if service not in self.services:
            raise EdgeIRError(
                f"the pass needs {service!r}",
                where=f"pass {pass_name}",
                expected="a callable",
                got=", ".join(self.services) or "no services",
                hint=f"set PassContext(services={{{service!r}: …}})",
            )
        return self.services[service]
