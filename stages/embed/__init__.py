"""Stage one: everything that touches songs."""
