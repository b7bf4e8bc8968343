"""Read by `gunicorn wsgi:app`: the same settings as `reviewapp serve`, and the same start."""

import os

from reviewapp.config import NUMERIC_THREADS, load_settings
from reviewapp.server import gunicorn_settings

# Before NumPy is loaded by the next line. The code is loaded here, not in each worker: they share its memory, and a
# worker that was killed is back at once; new code needs a restart, not a reload. A release is not loaded here: a model
# must not cross a fork.
os.environ.update(NUMERIC_THREADS)
import reviewapp.factory  # noqa: F401

globals().update(gunicorn_settings(load_settings()))
