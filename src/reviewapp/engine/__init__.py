"""How a release's options answer: by scikit-learn itself, or by a compiled form of the same fitted parts.

encoding   fitted transformers as plain functions
trees      ensembles of trees as flat arrays
heads      fitted models as plain functions
manywords  words counted in many texts at once, as scikit-learn counts them
engines    Native and Compiled: what the adapter asks
parity     whether the compiled form answers as scikit-learn does; only then a release says that it is used
"""
