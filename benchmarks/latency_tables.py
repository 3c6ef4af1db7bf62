"""Text of the latency benchmark's results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; the first one to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = cells
        padded = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        return "  ".join([first.ljust(widths[0]), *padded]).rstrip()

    return "\n".join([line(header), *(line(row) for row in rows)])


def latency_table(result: Row) -> str:
    """One model's contenders, one per line."""
    shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in result["shapes"].items())
    lines, failures = [], []
    for name, row in result["contenders"].items():
        if "failure" in row:
            failures.append(f"{name}: {row['failure']}")
            continue
        ratio = result["ratios"].get(name)
        error = row["error_by_range"]
        lines.append(
            [
                name,
                f"{row['min_ms']:.3f}",
                f"{row['median_ms']:.3f}",
                str(row["runs"]),
                "" if ratio is None else f"{ratio:.2f}",
                "differs" if error is None else f"{error:.1e}",
                f"{row['prepare_s']:.1f}",
            ]
        )
    header = ["contender", "min ms", "median ms", "runs", "ours/it", "error/range", "prepare s"]
    title = f"\n{result['model']} ({shapes}), threads {result['threads']}"
    return "\n".join([title, table(header, lines), *failures])


def summary_lines(rows: Sequence[Row]) -> list[str]:
    """Geometric means, one line for each number of threads."""
    lines = [""]
    for row in rows:
        if row["geometric_mean"] is None:
            lines.append(f"threads {row['threads']}: nothing to compare")
            continue
        against = ", ".join(f"{n} {v['geometric_mean']:.3f} ({v['models']})" for n, v in row["against"].items())
        lines.append(
            f"threads {row['threads']}: geometric mean of ours/fastest other over {row['models']} models "
            f"{row['geometric_mean']:.3f}, largest {row['largest']:.2f}; against {against}"
        )
        if row["missing"]:
            lines.append(f"  without {', '.join(row['missing'])}")
    return lines


def profile_tables(found: Row) -> str:
    """The kernels, the slowest first, and the sums by template."""
    if "failure" in found:
        return f"profile: {found['failure']}"
    peak = found["peak"]
    limits = (
        f"peak {peak['gflops']:.0f} GFLOP/s; triad L2 {peak['l2_gbs']:.0f}, L3 {peak['l3_gbs']:.0f}, "
        f"DRAM {peak['dram_gbs']:.1f} GB/s"
    )
    kernels = aggregated(found["kernels"])
    total = sum(row["us"] for row in kernels)
    header = ["kernel", "calls", "us", "share", "alone us", "GFLOP/s", "of peak", "GB/s", "of bw", "of roofline"]
    rows = [[*_kernel(row, total), *_what(row)] for row in kernels]
    sums = [
        [
            row["template"],
            str(row["calls"]),
            f"{row['us']:.1f}",
            f"{row['us'] / total:.1%}",
            f"{row['least_us']:.1f}",
            f"{row['gflops']:.1f}",
            f"{row['roofline_share']:.0%}",
        ]
        for row in found["by_template"]
    ]
    return "\n".join(
        [
            f"\nprofile, threads {peak['threads']}: {limits}; sum of the kernels {total / 1e3:.3f} ms",
            table([*header, "shapes", "template"], rows),
            "",
            table(["template", "calls", "us", "share", "roofline us", "GFLOP/s", "of roofline"], sums),
        ]
    )


def aggregated(rows: list[Row]) -> list[Row]:
    """Calls of one kernel together, the slowest first: `calls`, times summed, the rates of the fastest call."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["kernel"]].append(row)
    merged = []
    for group in groups.values():
        sums = {key: sum(row[key] for row in group) for key in ("us", "alone_us")}
        merged.append({**min(group, key=lambda row: row["us"]), **sums, "calls": len(group)})
    return sorted(merged, key=lambda row: -row["us"])


def _kernel(row: Row, total: float) -> list[str]:
    return [
        row["kernel"][:40],
        str(row["calls"]),
        f"{row['us']:.1f}",
        f"{row['us'] / total:.1%}",
        f"{row['alone_us']:.1f}",
        f"{row['gflops']:.1f}",
        f"{row['peak_share']:.0%}",
        f"{row['gbs']:.1f}",
        f"{row['bandwidth_share']:.0%}",
        f"{row['roofline_share']:.0%}",
    ]


def _what(row: Row) -> list[str]:
    def text(shape: Sequence[int]) -> str:
        return "x".join(map(str, shape)) or "scalar"

    shapes = f"{' '.join(text(s) for s in row['inputs'][:2])} -> {text(row['outputs'][0])}"
    strides = row["attributes"].get("strides")
    stride = f" s{strides[0]}" if strides else ""
    config = ",".join(f"{key}={value}" for key, value in row["config"].items())
    return [shapes + stride, f"{row['template']}({config})"]
