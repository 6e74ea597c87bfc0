"""gunicorn's configuration. Sync workers: requests are short, bound by the processor, and nginx buffers."""

from logging import LogRecord
from typing import Any

from .environment import Environment

_environment = Environment("MISAGO_")

# The second one is for the health check: a worker serves its sockets in turn, so the check doesn't queue behind all
# visitors who wait at the first one, and a forum that is merely busy isn't taken for a dead one.
bind = ["0.0.0.0:8000", "127.0.0.1:8001"]
wsgi_app = "forum.wsgi"
workers = _environment.integer("WORKERS", 2)
worker_class = "sync"
preload_app = True
timeout = _environment.integer("TIMEOUT", 30)
graceful_timeout = _environment.integer("GRACEFUL_TIMEOUT", 20)
max_requests = _environment.integer("WORKER_REQUESTS", 5000)
max_requests_jitter = max_requests // 5
backlog = 512
worker_tmp_dir = "/dev/shm"  # noqa: S108 (gunicorn's heartbeat files; memory, so that a busy disk kills no worker)
control_socket_disable = True
# To the Telegraf beside it, by datagrams: nothing waits for it.
statsd_host = "127.0.0.1:8125"
# It writes the requests' lines itself: gunicorn's own format can't be made safe against what a client says.
logger_class = "forum.access.Logger"
accesslog = None
errorlog = "-"
loglevel = "info"


def _matters(record: LogRecord) -> bool:
    return record.msg != "Error sending message to statsd"


def on_starting(server: Any) -> None:  # gunicorn has no types
    """Let gunicorn keep silent about a Telegraf that is away: it would write two tracebacks for every request."""
    server.log.error_log.addFilter(_matters)
