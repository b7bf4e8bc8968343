"""The evidence: trials of the real service and of both options, as tables that another reviewer can make again.

Read in this order: tables (what a trial yields) · running (the service under trial) · outcomes, latency, behaviour
(trials of the service) · answers, confidence, comparison, watching (trials of the options) · testruns · scoring (what
follows from them) · pictures · pack (the folder, and comparing two of them) · memo (figures into
prose) · run (all of it).
"""
