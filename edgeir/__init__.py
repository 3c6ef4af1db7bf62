"""EdgeIR: a graph compiler for networks on edge devices."""
