"""The pages: each goes through the same schemas, adapter and ledger as the API, and has a JSON twin at its address.

`base` says what all pages share, `plots` draws; each other module holds one page or two: a dataclass with all that is
shown, and the views that make it. What changes something answers with a redirect to the page that shows the change:
going back or reloading repeats nothing.
"""

from . import history, monitor, queue, reference, releases, signing, trying, uploading, what_if
from .base import ui

__all__ = ["history", "monitor", "queue", "reference", "releases", "signing", "trying", "ui", "uploading", "what_if"]
