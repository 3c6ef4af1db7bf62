"""A model as C source and an object of kernels, for devices that have no room for a runtime.

    model.h, model.c   one function, `model_run`; a static arena; the calls in order
    kernels.o          the kernels
    weights.c or .o    the constants
    main.c             an example that runs the golden pair, with golden.c or golden.o

`CC -O2 main.c model.c kernels.o weights.* golden.* -lm` links it, with libc and libm alone.
"""

from edgeir.emit.c.write import write_c

__all__ = ["write_c"]
