"""`python -m edgeir.passmanager FOLDER` runs a reproducer: the saved IR through the saved pipeline."""

from __future__ import annotations

import sys

from edgeir.errors import EdgeIRError
from edgeir.passmanager.context import PassContext
from edgeir.passmanager.reproducer import load_reproducer


def main(arguments: list[str]) -> int:
    """Runs it; exit status 1 where a pass fails."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        graph, pipeline = load_reproducer(arguments[0])
        print(pipeline.run(graph, PassContext(keep_reproducer=False)))
    except EdgeIRError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
