"""From a network's outputs to predictions, decisions, metrics and intervals.

Axes of the arrays in this package:

clips      clips of a collection, in its order; ``train``, ``test`` and ``batch`` are some of them
labels     label names of the collection, in its order
outputs    numbers that a network gives for a clip: one a label (in regression one a target)
sums       per-clip numbers whose sums over clips give the main metric (`Task.tally`)
decisions  clips x labels as one axis
artists    what a bootstrap resamples
resamples  draws of a bootstrap
modes      rows of a table: heads, or rules of a head
"""
