"""Read by `gunicorn wsgi:app`: the same settings as `reviewapp serve`."""

from reviewapp.config import load_settings
from reviewapp.server import gunicorn_settings

globals().update(gunicorn_settings(load_settings()))
