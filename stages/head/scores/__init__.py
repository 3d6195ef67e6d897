"""From a network's outputs to predictions, decisions, metrics and intervals."""
