"""What a serving member must notice by itself: that it stands alone, was overtaken, or was left behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from .boot import is_foremost
from .report import Report, State, leader
from .settings import Settings

# A member voted for a candidate that then died, and may not follow the old primary any more. That one steps down
# for a new election: soon if nobody else follows, or it could acknowledge nothing; else later.
STEP_DOWN_SECONDS = 10.0
LEAVE_FEW_SECONDS = 60.0
# Only a calm cluster is rearranged so that one standby feeds the other.
CALM_SECONDS = 30.0
# repmgrd makes a standby follow within a few seconds; what it forgot is mended after so long.
FOLLOW_AGAIN_SECONDS = 8.0


class Duty(Enum):
    """What the watch demands of a serving member."""

    NOTHING = auto()
    STOP = auto()
    FOLLOW = auto()
    CASCADE = auto()
    CAMPAIGN = auto()


@dataclass(frozen=True)
class Verdict:
    """A duty with its reason, and the member whom it concerns."""

    duty: Duty
    reason: str = ""
    whom: str = ""


NOTHING = Verdict(Duty.NOTHING)


class Watch:
    """Judges a member's report against those of its peers, and remembers for how long things have been so."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._since: dict[str, float] = {}

    def _lasting(self, what: str, holds: bool, now: float) -> float:
        """Seconds for which what has held without a break, 0 if it doesn't hold."""
        if not holds:
            self._since.pop(what, None)
            return 0.0
        return now - self._since.setdefault(what, now)

    def judge(self, own: Report, peers: Mapping[str, Report], now: float) -> Verdict:
        """The member's duty now. peers: reports of those that can be heard; now: seconds of a steady clock."""
        if own.state is State.PRIMARY:
            return self._primary(own, peers, now)
        if own.state is State.STANDBY:
            return self._standby(own, peers, now)
        self._since.clear()
        return NOTHING

    def _primary(self, own: Report, peers: Mapping[str, Report], now: float) -> Verdict:
        settings = self._settings
        rival = leader(peers.values(), own.timeline + 1)
        if rival:
            return Verdict(Duty.STOP, f"{rival.name} is primary on the newer timeline {rival.timeline}")
        alone = self._lasting("alone", bool(settings.others) and not peers, now)
        if alone >= settings.fence_seconds:
            return Verdict(Duty.STOP, f"no other member heard for {alone:.0f} s")
        floor = max((peer.floor for peer in peers.values()), default=0)
        outvoted = self._lasting("outvoted", floor > own.timeline, now)
        if outvoted >= (LEAVE_FEW_SECONDS if own.receivers else STEP_DOWN_SECONDS):
            return Verdict(Duty.STOP, f"a member voted in term {floor} and may not follow: elect anew")
        return NOTHING

    def _standby(self, own: Report, peers: Mapping[str, Report], now: float) -> Verdict:
        settings = self._settings
        first = leader(peers.values(), own.floor)
        adrift = self._lasting("adrift", first is not None and not self._fed(own, peers, first), now)
        tried = self._lasting("tried", adrift >= FOLLOW_AGAIN_SECONDS, now)
        leaderless = self._lasting("leaderless", first is None and bool(peers), now)
        if first and adrift >= settings.follow_seconds:
            return Verdict(Duty.STOP, f"no log from {first.name} for {adrift:.0f} s: rejoin it")
        if first and adrift >= FOLLOW_AGAIN_SECONDS and not tried:
            return Verdict(Duty.FOLLOW, f"{first.name} is primary and sends no log", first.name)
        # Boot's own patience is shorter, so a member that waits for a leader has its turn first.
        if leaderless >= settings.grace_seconds + 5:
            voters = [peer for peer in peers.values() if peer.state in (State.WAITING, State.STANDBY)]
            stale = any(peer.state is State.PRIMARY for peer in peers.values())
            if not stale and 1 + len(voters) >= settings.majority and is_foremost(own, voters, settings):
                self._since.pop("leaderless")
                return Verdict(Duty.CAMPAIGN, f"no primary for {leaderless:.0f} s")
        feeder = self._feeder(own, peers, first)
        if self._lasting("calm", feeder is not None, now) >= CALM_SECONDS and feeder:
            self._since.pop("calm")
            return Verdict(Duty.CASCADE, f"{feeder.name} can send the log", feeder.name)
        return NOTHING

    def _feeder(self, own: Report, peers: Mapping[str, Report], first: Report | None) -> Report | None:
        """The standby that own should stream from instead of the primary, None if all is as it should be.

        With cascading the last of the members that are standbys streams from the first of them.
        """
        if not self._settings.cascading or first is None or own.upstream != first.name:
            return None
        direct = [
            peer for peer in peers.values() if peer.state is State.STANDBY and peer.upstream == first.name
        ]
        order = self._settings.members.index
        feeder = min(direct, key=lambda peer: order(peer.name), default=None)
        return feeder if feeder and all(order(own.name) > order(peer.name) for peer in direct) else None

    def _fed(self, own: Report, peers: Mapping[str, Report], first: Report) -> bool:
        """True if the member streams from the primary, directly or through a standby that does."""
        if own.upstream == first.name:
            return True
        feeder = peers.get(own.upstream)
        return feeder is not None and feeder.state is State.STANDBY and feeder.upstream == first.name
