"""How good a model's captions are: `make eval` writes docs/evaluation.md.

Place: beside `benchmarks`, which says how fast they are. Measurements (:mod:`evaluation.plan`) run
a model over test sets and keep its answers; scores are computed from kept answers only, so a score
can be changed without running anything anew, and an interrupted run goes on where it stood.
"""
