"""reviewapp turns a fitted scikit-learn model into a service that people can review before they trust it."""

__version__ = "0.1.0"
