"""Results that are kept in git, and the documents that say nothing else.

`python -m benchmarks.publish keep` copies the results of a finished run to docs/results/<profile>/
with `provenance.json`; `render` rewrites, from docs/results/ alone, every block between
`<!-- results:<profile>:<block>:start -->` and `... :end -->` of README.md and docs/*.md, and
docs/matrix-<profile>.png; `compare` says how far the results of this run are from the
kept ones, or from those of another run; `page` draws how the page of this run begins.
"""
