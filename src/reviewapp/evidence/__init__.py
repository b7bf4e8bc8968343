"""The evidence: trials of the real service and of both options, as tables that another reviewer can make again.

Read in this order: tables (what a trial yields) · pictures · pack (the folder, and comparing two of them) · examples
(labelled requests) · running (the service under trial) · outcomes, latency, behaviour (trials of the service) ·
answers, slices, confidence, comparison (trials of the options, where the answer is a label) · values (where it is a
value) · watching, simulation (trials of the rollback rule) · testruns · scoring (what follows from them) · memo
(figures into prose) · run (all of it).
"""
