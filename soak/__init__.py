"""The soak: what the service promises while things go wrong, each promise a figure. `make soak` runs it all.

`python -m soak` takes the numbers of rows; `--short` runs the short form of each, which `make test` runs, too.
"""
