"""How a head with a network is trained: the one loop, and what it is made of."""
