"""The WSGI entry for servers that are started by hand: `gunicorn wsgi:app` (settings: gunicorn.conf.py)."""

from reviewapp.factory import create_app

app = create_app()
