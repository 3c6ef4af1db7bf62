"""Objectives in which a network learns from another one, or several from each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from edgeir.errors import EdgeIRError
from edgeir.training.data import Inputs
from edgeir.training.distillation_losses import attention_loss, feature_loss, mutual_loss, response_loss, same_size
from edgeir.training.layer_pairs import Pair, check_pairs, choose_pairs
from edgeir.training.losses import Loss
from edgeir.training.metrics import evaluate_module
from edgeir.training.model_outputs import graph_of, run_model
from edgeir.training.objective import Objective, OutputLoss


class FeatureAdapter(nn.Module):
    """A learned map of the student's features to the teacher's channels: a 1×1 convolution without bias
    (FitNets: Romero et al. 2015, section 2.2, with kernels of size 1).

    Args:
        channels: of the student.
        wanted: of the teacher.
        seed: of the initial weights, orthogonal ones.
    """

    def __init__(self, channels: int, wanted: int, seed: int = 0) -> None:
        super().__init__()
        weight = torch.empty(wanted, channels)
        nn.init.orthogonal_(weight, generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(weight)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, channels, *S) → (N, wanted, *S)."""
        return torch.einsum("oc,nc...->no...", self.weight, features)


class Distillation(Objective):
    """hard·L(y) + response·L_response + feature·Σ L_feature + attention·Σ L_attention, the sums over pairs of layers.

    Args:
        student: the module that is trained.
        teacher: the module that it learns from; it stays as it is, and its weights are in no checkpoint.
        loss: the hard loss, of the student's output and the targets.
        hard: its weight; 0 to learn from the teacher alone.
        response: weight of `response_loss`.
        temperature: of `response_loss`.
        feature: weight of `feature_loss`; features whose channels differ go through a learned `FeatureAdapter`.
        attention: weight of `attention_loss`.
        pairs: (student's value, teacher's value) by name; chosen by depth and shape if None.
        output: name of the output, where there are several.
        seed: of the adapters' initial weights.

    Raises:
        EdgeIRError: a weight is negative, nothing is asked of the teacher, layers are to be compared but one of the
            modules is no graph's, or a value does not exist.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        loss: str | Loss = "cross-entropy",
        *,
        hard: float = 0.1,
        response: float = 0.9,
        temperature: float = 4.0,
        feature: float = 0.0,
        attention: float = 0.0,
        pairs: Sequence[Pair] | None = None,
        output: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(loss, student, output)
        for name, weight in (("hard", hard), ("response", response), ("feature", feature), ("attention", attention)):
            if weight < 0:
                raise EdgeIRError("a loss has a negative weight", where=name, got=weight)
        if not response and not feature and not attention:
            raise EdgeIRError(
                "nothing is learned from the teacher", hint="give response, feature or attention a weight"
            )
        if temperature <= 0:
            raise EdgeIRError("the temperature must be positive", got=temperature)
        self.weights = {"hard": hard, "response": response, "feature": feature, "attention": attention}
        self.temperature = temperature
        # In a list, so that the teacher is no part of this module: it is neither trained nor saved with it.
        self._teacher = [teacher.eval().requires_grad_(False)]
        self._teacher_hard = OutputLoss("cross-entropy", teacher, output)
        self._student_logits = OutputLoss("cross-entropy", student, output)
        self.pairs = self._pairs(student, teacher, pairs) if feature or attention else []
        self.adapters = nn.ModuleDict()
        if feature:
            self._make_adapters(student, teacher, seed)

    @property
    def teacher(self) -> nn.Module:
        """The module that is learned from."""
        return self._teacher[0]

    def _apply(self, fn: Any, recurse: bool = True) -> Distillation:
        # The teacher follows to another device, though it is no submodule.
        self.teacher._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def train(self, mode: bool = True) -> Distillation:
        """As any module; the teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(
        self, module: nn.Module, inputs: Inputs, targets: Any
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """The objective on one batch, and its parts before they are weighted."""
        mine = (*self.hard.capture, *self._student_logits.capture, *(pair[0] for pair in self.pairs))
        theirs = (*self._teacher_hard.capture, *(pair[1] for pair in self.pairs))
        own = run_model(module, inputs, tuple(dict.fromkeys(mine)))
        with torch.no_grad():
            other = run_model(self.teacher, inputs, tuple(dict.fromkeys(theirs)))
        parts: dict[str, torch.Tensor] = {}
        if self.weights["hard"]:
            parts["hard"] = self.hard(own, targets)
        if self.weights["response"]:
            logits, wanted = self._student_logits.of(own), self._teacher_hard.of(other)
            parts["response"] = response_loss(logits, wanted, self.temperature)
        if self.weights["feature"]:
            parts["feature"] = self._features(own, other)
        if self.weights["attention"]:
            losses = [attention_loss(own[a], other[b]) for a, b in self.pairs]
            parts["attention"] = torch.stack(losses).sum()
        total = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()
        return total, {name: part.detach() for name, part in parts.items()}

    def _features(self, own: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> torch.Tensor:
        losses = []
        for index, (mine, theirs) in enumerate(self.pairs):
            student, teacher = same_size(own[mine], other[theirs])
            adapted = self.adapters[str(index)](student) if str(index) in self.adapters else student
            losses.append(feature_loss(adapted, teacher))
        return torch.stack(losses).sum()

    def _pairs(self, student: nn.Module, teacher: nn.Module, pairs: Sequence[Pair] | None) -> list[Pair]:
        mine, theirs = graph_of(student), graph_of(teacher)
        if mine is None or theirs is None:
            raise EdgeIRError("layers can be compared between modules of graphs only", hint="use response alone")
        chosen = choose_pairs(mine, theirs) if pairs is None else [(a, b) for a, b in pairs]
        if not chosen:
            raise EdgeIRError("no pairs of layers to compare")
        check_pairs(chosen, mine, theirs)
        return chosen

    def _make_adapters(self, student: nn.Module, teacher: nn.Module, seed: int) -> None:
        mine, theirs = graph_of(student), graph_of(teacher)
        assert mine is not None and theirs is not None
        for index, (a, b) in enumerate(self.pairs):
            channels, wanted = mine.value(a).type.shape[1], theirs.value(b).type.shape[1]
            if not isinstance(channels, int) or not isinstance(wanted, int):
                raise EdgeIRError("channels must be fixed", where=f"pair {a}, {b}", got=f"{channels} and {wanted}")
            if channels != wanted:
                self.adapters[str(index)] = FeatureAdapter(channels, wanted, seed + index)


class Cohort(nn.Module):
    """Networks that learn together; calling it gives the first one's outputs."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if len(members) < 2:
            raise EdgeIRError("a cohort needs at least two networks", got=len(members))
        self.members = nn.ModuleList(members)

    def forward(self, inputs: Inputs) -> dict[str, torch.Tensor]:
        """Outputs of the first member by name."""
        return run_model(self.members[0], inputs)


class MutualLearning(Objective):
    """Deep mutual learning (Zhang et al. 2018, arXiv:1706.00384): Σ_i L(y, z_i) + weight/(K − 1)·Σ_{j≠i} KL(p_j ‖ p_i).

    All members take their step at once, from the same predictions (the paper's algorithm 1 updates them in turn).

    Args:
        cohort: the networks, for `fit` as module; a teacher and a student, or any number.
        loss: the hard loss of each.
        weight: of what is learned from the others.
        output: name of the output, where there are several; the same for all.
    """

    def __init__(
        self, cohort: Cohort, loss: str | Loss = "cross-entropy", *, weight: float = 1.0, output: str | None = None
    ) -> None:
        super().__init__(loss, cohort.members[0], output)
        if weight < 0:
            raise EdgeIRError("a loss has a negative weight", got=weight)
        self.weight = weight
        self._hard = [OutputLoss(loss, member, output) for member in cohort.members]
        self._logits = [OutputLoss("cross-entropy", member, output) for member in cohort.members]

    def forward(
        self, module: nn.Module, inputs: Inputs, targets: Any
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """The objective on one batch; parts are each member's hard loss."""
        members = _members(module)
        parts: dict[str, torch.Tensor] = {}
        logits = []
        for index, member in enumerate(members):
            capture = (*self._hard[index].capture, *self._logits[index].capture)
            outputs = run_model(member, inputs, tuple(dict.fromkeys(capture)))
            parts[f"hard/{index}"] = self._hard[index](outputs, targets)
            logits.append(self._logits[index].of(outputs))
        total = torch.stack(list(parts.values())).sum()
        for own in range(len(members)):
            peers = [mutual_loss(logits[own], logits[j]) for j in range(len(members)) if j != own]
            total = total + self.weight * torch.stack(peers).mean()
        return total, {name: part.detach() for name, part in parts.items()}

    def evaluate(
        self, module: nn.Module, data: Any, metrics: Sequence[str], batch_size: int, channels_last: bool
    ) -> dict[str, float]:
        """Each member's loss and metrics under `name/index`, and their means under `name`."""
        members = _members(module)
        rows = [
            evaluate_module(
                *(member, data, metrics),
                loss=self._hard[index],
                output=self.output,
                batch_size=batch_size,
                channels_last=channels_last,
            )
            for index, member in enumerate(members)
        ]
        means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        return means | {f"{name}/{index}": row[name] for index, row in enumerate(rows) for name in row}


def _members(module: nn.Module) -> list[nn.Module]:
    if not isinstance(module, Cohort):
        raise EdgeIRError("mutual learning trains a cohort", expected="Cohort([…])", got=type(module).__name__)
    return list(module.members)
