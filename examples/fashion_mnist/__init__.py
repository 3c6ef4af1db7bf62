"""From scratch to compiled 8-bit integers on Fashion-MNIST."""
