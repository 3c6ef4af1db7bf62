"""A line plot as SVG text, with a band around each line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

COLOURS = ("#888888", "#d98000", "#0060b0", "#208040")
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 400, 64, 48, 36, 16


@dataclass(frozen=True)
class Line:
    """A curve: its middle and, at each place, the least and the greatest value."""

    middle: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def line_plot(title: str, x_label: str, y_label: str, lines: Mapping[str, Line]) -> str:
    """The SVG text; x is 1, 2, 3, …

    Args:
        title, x_label, y_label: texts.
        lines: name → curve.
    """
    count = max(len(line.middle) for line in lines.values())
    least = min(min(line.low) for line in lines.values())
    greatest = max(max(line.high) for line in lines.values())
    margin = 0.05 * (greatest - least or 1.0)
    least, greatest = least - margin, greatest + margin

    def x(index: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * index / max(1, count - 1)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (greatest - value) / (greatest - least)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{WIDTH / 2}" y="20" text-anchor="middle" font-size="14">{escape(title)}</text>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_label)}</text>',
        f'<text x="16" y="{HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 16 {HEIGHT / 2})">'
        f"{escape(y_label)}</text>",
    ]
    for step in range(6):
        value, index = least + (greatest - least) * step / 5, (count - 1) * step / 5
        parts.append(f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}" stroke="#dddddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3f}</text>')
        parts.append(f'<text x="{x(index):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{index + 1:.0f}</text>')
    for place, (name, line) in enumerate(lines.items()):
        colour = COLOURS[place % len(COLOURS)]
        upper = [f"{x(i):.1f},{y(v):.1f}" for i, v in enumerate(line.high)]
        lower = [f"{x(i):.1f},{y(v):.1f}" for i, v in enumerate(line.low)]
        parts.append(f'<polygon points="{" ".join([*upper, *reversed(lower)])}" fill="{colour}" opacity="0.15"/>')
        points = " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in enumerate(line.middle))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{WIDTH - RIGHT - 8}" y="{TOP + 16 + 16 * place}" text-anchor="end" fill="{colour}">')
        parts.append(f"{escape(name)}</text>")
    return "\n".join([*parts, "</svg>"]) + "\n"
