"""The dashboard: static files, and how they are answered. Nothing here knows a database or a user.

``files.py`` says what a path answers and with which headers; the gateway and ``server.py`` (which
needs nothing but the standard library) put it on a socket. What the browser runs is in ``static/``.
"""
