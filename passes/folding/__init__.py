"""Computing ahead of time: constants, and affine operators folded into weights."""
