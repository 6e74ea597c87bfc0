"""Runs the collector under systemd."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path

from systemd.daemon import notify

from .agents import Agent, EncryptionError, require_encryption
from .collector import Collector
from .events import Troubles, line, log
from .influx import Influx
from .settings import Settings, load
from .swarm import Swarm

#: The exit status that systemd takes as a reason not to try again: with the same settings it would end the same way.
REFUSED = 78


async def serve(settings: Settings) -> None:
    """Collect until systemd says stop."""
    troubles = Troubles()
    collector = Collector(
        settings,
        Swarm(settings, troubles),
        Influx(settings),
        lambda address: Agent(address, settings),
        troubles,
    )
    running = asyncio.create_task(collector.run(lambda: notify("WATCHDOG=1")))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    notify("READY=1")
    log.info("%s", line("started", stack=settings.stack))
    with contextlib.suppress(asyncio.CancelledError):
        await running
    notify("STOPPING=1")
    await collector.stop()


def main() -> int:
    """Run with the settings in the file that the command line names. Returns the exit status."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(message)s")
    log.setLevel(logging.INFO)
    path = Path(sys.argv[1])
    try:
        settings = load(path)
        require_encryption()
    except (OSError, ValueError, TypeError) as error:
        log.error("%s", line("refused", file=path, reason=error))
        return REFUSED
    except EncryptionError as error:
        log.error("%s", line("refused", reason=error))
        return REFUSED
    asyncio.run(serve(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
