"""The code in the guides runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
GUIDES = sorted(path.name for path in DOCS.glob("*.md") if _BLOCK.search(path.read_text(encoding="utf-8")))


def test_there_are_guides_with_code() -> None:
    assert "first-pass.md" in GUIDES


@pytest.mark.parametrize("guide", GUIDES)
def test_guide(guide: str, tmp_path: Path) -> None:
    # A process of its own: a guide registers passes, which would stay known to other tests.
    code = "\n".join(_BLOCK.findall((DOCS / guide).read_text(encoding="utf-8")))
    script = tmp_path / "guide.py"
    script.write_text(code, encoding="utf-8")
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert result.returncode == 0, result.stderr
