"""Whether a member that is told to stop should still serve, so that a rollout never takes the majority away."""

from __future__ import annotations

from collections.abc import Mapping

from .member import SERVING
from .report import Report, State
from .settings import Settings

# Together with a fast stop of the server these stay below the service's stop_grace_period.
RISING_SECONDS = 30.0
# A container that was just made anew is heard again sooner; a machine that is gone isn't waited for.
UNHEARD_SECONDS = 10.0


def patience(own: Report, peers: Mapping[str, Report], settings: Settings) -> float:
    """For how many seconds, counted from the order to stop, own should serve on; 0 when it may stop now.

    It may when the others are a majority that serves without it; when another is told to stop too, since then the
    machines go down and no rollout is under way; and when there is nothing to spare: it doesn't serve, or hears
    too few for a majority. peers: reports of those that can be heard.
    """
    if own.state not in SERVING or 1 + len(peers) < settings.majority or any(map(_goes, peers.values())):
        return 0.0
    if sum(map(_serves, peers.values())) >= min(settings.majority, len(settings.others)):
        return 0.0
    return UNHEARD_SECONDS if all(map(_serves, peers.values())) else RISING_SECONDS


def _goes(peer: Report) -> bool:
    return peer.leaving or peer.state is State.STOPPING


def _serves(peer: Report) -> bool:
    return peer.state is State.PRIMARY or (peer.state is State.STANDBY and bool(peer.upstream))
