"""The page ``/docs``: what an application understands, from its handlers."""
