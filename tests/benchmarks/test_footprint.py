"""The table of the footprint benchmark."""

from __future__ import annotations

from benchmarks.footprint import PUBLISHED, Footprint, table


def test_table_shows_every_figure_and_what_is_published() -> None:
    text = table([Footprint("net", "one", 0, 2048, 1024, None, 3 * 1024 * 1024)])
    assert "| net | one | 0.0 KiB | 2.0 KiB | 1.0 KiB | – | 3,072.0 KiB |" in text
    assert all(f"Published: {name}: {figure} ({source})" in text for name, figure, source in PUBLISHED)
