"""The tests. What numeric libraries read when they are loaded is set here, before anything is imported."""

import os

from reviewapp.config import NUMERIC_THREADS

os.environ.update(NUMERIC_THREADS)
for _name in [name for name in os.environ if name.startswith("REVIEWAPP_")]:
    del os.environ[_name]  # a developer's own settings are none of the tests' business
