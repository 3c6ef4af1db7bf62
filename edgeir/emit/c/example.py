"""`main.c`: an example that runs the golden pair, compares, and says what the program takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import Template

import numpy as np

from edgeir.emit.c.source import Parameter
from edgeir.lowering.in_place import ALIGNMENT
from edgeir.lowering.layouts import to_physical

_MAIN = Template("""\
/* Runs the golden pair: CC -O2 main.c model.c $objects -lm -o example && ./example [FILE for the outputs] */
#include "model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

extern const unsigned char model_golden[];

$buffers

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

/* Linux lets ru_maxrss survive exec, so that a large parent would be counted; VmHWM is the program's own. */
static long peak_resident_bytes(void) {
  struct rusage usage;
  char line[256];
  long kibibytes = 0;
  FILE *file = fopen("/proc/self/status", "r");
  while (file && fgets(line, sizeof line, file))
    if (!strncmp(line, "VmHWM:", 6)) kibibytes = atol(line + 6);
  if (file) fclose(file);
  getrusage(RUSAGE_SELF, &usage);
  return 1024 * (kibibytes ? kibibytes : usage.ru_maxrss);
}

int main(int count, char **arguments) {
  double worst = 0, best = 1e9;
$load
  for (int i = 0; i < 20; ++i) {
    double start = now();
    int status = model_run($call);
    if (status) {
      fprintf(stderr, "model_run: %d\\n", status);
      return status;
    }
    start = now() - start;
    if (start < best) best = start;
    if (best > 0.2) break;
  }
$compare
  printf("{\\"relative_error\\": %.3g, \\"seconds\\": %.6g, \\"arena_bytes\\": %d, \\"weight_bytes\\": %d, "
         "\\"peak_resident_bytes\\": %ld}\\n",
         worst, best, MODEL_ARENA_BYTES, MODEL_WEIGHT_BYTES, peak_resident_bytes());
  if (count > 1) {
    FILE *file = fopen(arguments[1], "wb");
    if (!file) return 3;
$store
    fclose(file);
  }
  return worst <= $tolerance ? 0 : 4;
}
""")

_COMPARE = Template("""\
  {
    const $c_type *golden = (const $c_type *)(model_golden + $offset);
    double low = golden[0], high = golden[0], difference = 0;
    for (long i = 0; i < $elements; ++i) {
      double d = fabs((double)$name[i] - (double)golden[i]);
      if (!(d <= difference)) difference = d;
      if (golden[i] < low) low = golden[i];
      if (golden[i] > high) high = golden[i];
    }
    difference /= high > low ? high - low : 1;
    if (!(difference <= worst)) worst = difference;
  }""")


def golden_bytes(
    inputs: Sequence[Parameter],
    outputs: Sequence[Parameter],
    golden: Mapping[str, np.ndarray],
    names: Sequence[str],
) -> tuple[bytes, list[int]]:
    """The golden arrays one after the other, aligned, and where each starts: inputs, then outputs.

    Args:
        inputs, outputs: the parameters.
        golden: arrays by the names of the graph.
        names: the graph's name of each parameter.
    """
    data, offsets = bytearray(), []
    for parameter, name in zip((*inputs, *outputs), names, strict=True):
        data += bytes(-len(data) % ALIGNMENT)
        offsets.append(len(data))
        data += np.ascontiguousarray(to_physical(golden[name], parameter.value.type)).tobytes()
    return bytes(data), offsets


def example(
    inputs: Sequence[Parameter], outputs: Sequence[Parameter], offsets: Sequence[int], objects: str, tolerance: float
) -> str:
    """The text of `main.c`.

    Args:
        inputs, outputs: the parameters of `model_run`.
        offsets: where golden arrays start, as `golden_bytes` gives them.
        objects: the other files to link, for the comment.
        tolerance: largest error relative to an output's range that passes.
    """
    everything = [*inputs, *outputs]
    known = zip(outputs, offsets[len(inputs) :], strict=True)
    compared = [(p, at) for p, at in known if p.value.type.dtype in ("float32", "float64") or "int" in p.c_type]
    return _MAIN.substitute(
        objects=objects,
        buffers="\n".join(
            f"static _Alignas(MODEL_ALIGNMENT) {p.c_type} {p.name}[{max(1, p.elements)}];" for p in everything
        ),
        load="\n".join(
            f"  memcpy({p.name}, model_golden + {at}, {p.bytes});"
            for p, at in zip(inputs, offsets[: len(inputs)], strict=True)
        ),
        call=", ".join(p.name for p in everything),
        compare="\n".join(
            _COMPARE.substitute(c_type=p.c_type, offset=at, elements=p.elements, name=p.name) for p, at in compared
        ),
        store="\n".join(f"    fwrite({p.name}, 1, {p.bytes}, file);" for p in outputs),
        tolerance=tolerance,
    )
