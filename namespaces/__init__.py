"""The features: chat, notify, secure and the tutorial's plain routes. ``namespaces.app:app`` is the application.

(``namespaces/`` at the top are the features; ``realtime/typed/namespace.py`` is the class they are built with.)
"""
