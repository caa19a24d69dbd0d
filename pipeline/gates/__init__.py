"""Gates: what must hold of the data before anything is fitted, and of the fits before the matrix.

A file for each kind: `leaks` (and the features they look at: `traces`, `bands`), `sources`,
`splits`, `generators`, `reads`. `pipeline.audit` runs them. A hard gate that fails stops the run
with its evidence, unless `audit.warn` names it; a soft one is only reported.
"""
