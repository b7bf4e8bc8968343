"""From a table to a release: read, infer the contract, fit, calibrate, evaluate, write."""
