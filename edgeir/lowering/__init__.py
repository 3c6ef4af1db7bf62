"""From graphs to TVM: tensor computations, tasks, modules, machine code."""
