"""Numbers of few bits: where they are used, how their scales are found, how weights are rounded."""
