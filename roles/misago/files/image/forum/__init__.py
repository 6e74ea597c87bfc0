"""The forum: Misago's project package for a swarm.

Celery's application is imported here because Misago's tasks are shared tasks: without it they look for a
broker on localhost and every reply fails.
"""

from .celery import app as celery_app

__all__ = ["celery_app"]
