"""Runs the cases and reports pass rates.

python -m benchmarks.conformance [--filter TEXT] [--jobs 2] [--json FILE] [--limit N]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.conformance.cases import KINDS, Case, load_cases
from benchmarks.conformance.check import FAILED, Outcome, check
from benchmarks.conformance.pool import run_guarded

Row = tuple[Case, Outcome]
RESULTS = Path(__file__).resolve().parents[1] / "results" / "conformance.json"
GROUPS = ("single operator", "PyTorch-made", "function body", "simple")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 1 if an answer was wrong, or a case crashed or hung."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.conformance", description="Run ONNX's conformance cases."
    )
    parser.add_argument("--filter", default="", help="only cases whose name contains this text")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only cases of this kind (repeatable)")
    parser.add_argument("--no-bodies", action="store_true", help="leave out the expanded function bodies")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes")
    parser.add_argument("--timeout", type=float, default=60, help="seconds for one case")
    parser.add_argument("--limit", type=int, default=None, help="at most so many cases, evenly spread")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where to write the results")
    options = parser.parse_args(arguments)

    cases = [case for case in load_cases(options.kind or KINDS, options.filter)]
    if options.no_bodies:
        cases = [case for case in cases if case.group != "function body"]
    if options.limit is not None and options.limit < len(cases):
        cases = [cases[i * len(cases) // options.limit] for i in range(options.limit)]
    rows = [(case, Outcome("out of scope", message=case.out_of_scope)) for case in cases if case.out_of_scope]
    todo = [case for case in cases if not case.out_of_scope]
    results = run_guarded(check, todo, options.jobs, options.timeout, lambda kind, text: Outcome(kind, message=text))
    for count, row in enumerate(results, 1):
        rows.append(row)
        case, outcome = row
        if outcome.outcome != "pass":
            first = outcome.message.splitlines()[0] if outcome.message else ""
            print(f"{outcome.outcome}: {case.name} [{outcome.stage}] {first[:160]}", file=sys.stderr)
        if count % 100 == 0:
            print(f"{count} of {len(todo)}", file=sys.stderr, flush=True)
    rows.sort(key=lambda row: row[0].name)
    print(report(rows))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(as_json(rows), indent=1) + "\n", encoding="utf-8")
    return int(any(outcome.outcome in ("wrong", "crash", "timeout") for _, outcome in rows))


def report(rows: Sequence[Row]) -> str:
    """Pass rates by operator, worst first, and totals, as text."""
    lines = []
    operators: dict[str, Counter[str]] = {}
    for case, outcome in rows:
        if outcome.outcome != "out of scope":
            operators.setdefault(case.operator, Counter())[outcome.outcome] += 1
    lines.append(f"{'operator':<34} {'pass':>5} {'of':>5}  failures")
    for name, counts in sorted(operators.items(), key=lambda item: (item[1]["pass"] - item[1].total(), item[0])):
        failures = ", ".join(f"{counts[kind]} {kind}" for kind in FAILED if counts[kind])
        lines.append(f"{name:<34} {counts['pass']:>5} {counts.total():>5}  {failures}")
    left_out = Counter(outcome.message for _, outcome in rows if outcome.outcome == "out of scope")
    lines += ["", "out of scope: " + (", ".join(f"{n} {why}" for why, n in left_out.most_common()) or "none"), ""]
    for group, total in totals(rows).items():
        failures = ", ".join(f"{total[kind]} {kind}" for kind in FAILED if total[kind])
        rate = f"{100 * total['pass'] / total['cases']:.1f} %"
        lines.append(f"{group:<18} {total['pass']:>5} of {total['cases']:>5} pass = {rate}  {failures}")
    return "\n".join(lines)


def totals(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Group → number of cases in scope, and of each outcome."""
    result = {}
    for group in (*GROUPS, "all"):
        counts = Counter(
            outcome.outcome
            for case, outcome in rows
            if group in (case.group, "all") and outcome.outcome != "out of scope"
        )
        if counts:
            result[group] = {"cases": counts.total()} | {kind: counts[kind] for kind in ("pass", *FAILED)}
    return result


def as_json(rows: Sequence[Row]) -> dict[str, object]:
    """Totals, and each case that did not pass."""
    passed = [case.name for case, outcome in rows if outcome.outcome == "pass"]
    others = [
        {"name": case.name, "operator": case.operator, "group": case.group}
        | {key: value for key, value in asdict(outcome).items() if value and key != "seconds"}
        for case, outcome in rows
        if outcome.outcome != "pass"
    ]
    return {"totals": totals(rows), "passed": passed, "not passed": others}


if __name__ == "__main__":
    sys.exit(main())
