"""Measures the goals of speed, as ratios within one run: `make bench`, or `python -m bench`. See README.md here.

models      the pipelines that are served beside the default one
releases    what is served: releases of them, built once, and requests for each
servers/    what the service is compared with, one file each
running     a server in a process group of its own: started, asked, stopped
client      the load generator of our own; wrk.lua: the same with wrk
load        one run of the load, and what it says
bare        the pipeline without a service, and a commit without one, each in a process of its own
ledger      a ledger with a million rows
measure     all runs, interleaved
goals       from the runs to the goals
results     tables, picture and manifest; the part of the README
"""
