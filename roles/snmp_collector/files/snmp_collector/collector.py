"""The two rounds: which nodes there are, and how they are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from .events import Troubles, line, log
from .figures import Fields, Ticks, fields, ticks
from .influx import InfluxError, point
from .settings import Settings
from .swarm import Nodes, SwarmError


class Agent(Protocol):
    """A node that answers."""

    address: str

    async def read(self) -> dict[str, int]:
        """Object -> number. Raises an exception with the reason."""

    def close(self) -> None:
        """End what is open."""


class Swarm(Protocol):
    """Who knows the nodes."""

    def nodes(self) -> Nodes:
        """Raises SwarmError."""


class Database(Protocol):
    """Where points go; its calls block, and raise InfluxError."""

    @property
    def waiting(self) -> int:
        """Rounds that aren't written yet."""

    def add(self, points: str) -> None:
        """Keep a round."""

    def flush(self) -> None:
        """Write what was kept."""

    def nodes(self) -> set[str]:
        """Nodes with series."""

    def drop(self, node: str) -> None:
        """Drop a node's series."""


class Collector:
    """Polls the nodes, and follows the swarm."""

    def __init__(
        self,
        settings: Settings,
        swarm: Swarm,
        database: Database,
        make_agent: Callable[[str], Agent],
        troubles: Troubles,
    ) -> None:
        self._settings = settings
        self._swarm = swarm
        self._database = database
        self._make_agent = make_agent
        self._troubles = troubles
        self._agents: dict[str, Agent] = {}
        self._ticks: dict[str, Ticks] = {}
        # A write that is under way when the swarm is looked at would bring a dropped series back.
        self._writing = asyncio.Lock()

    async def discover(self) -> bool:
        """Learn which nodes there are, and drop the series of those that departed. False if that must be repeated."""
        try:
            done = await self._discover()
        # Whatever an answer holds that nobody expected is no reason to end, and to lose the points that wait.
        except Exception as error:  # noqa: BLE001
            self._troubles.begin("discovery", self._settings.stack, f"{type(error).__name__}: {error}")
            return False
        self._troubles.over("discovery", self._settings.stack)
        return done

    async def _discover(self) -> bool:
        try:
            nodes = await asyncio.to_thread(self._swarm.nodes)
        except SwarmError as error:
            self._troubles.begin("swarm", self._settings.stack, str(error))
            return False
        self._troubles.over("swarm", self._settings.stack)
        # A stack without a task is being deployed or removed: no reason to forget how its nodes were.
        if not nodes.hosting:
            self._troubles.begin("stack", self._settings.stack, "no node hosts a task of it")
            return False
        self._troubles.over("stack", self._settings.stack)
        self._follow(nodes.all)
        return await self._forget(set(nodes.all))

    def _follow(self, nodes: Mapping[str, str]) -> None:
        """Ask these nodes (node -> address) from now on, and no others."""
        for node in [name for name, agent in self._agents.items() if nodes.get(name) != agent.address]:
            self._agents.pop(node).close()
            self._ticks.pop(node, None)
            self._troubles.forget("node", node)
            if node not in nodes:
                log.info("%s", line("node-departed", node=node))
        for node, address in nodes.items():
            if node not in self._agents:
                self._agents[node] = self._make_agent(address)
                log.info("%s", line("node-found", node=node, address=address))

    async def _forget(self, nodes: set[str]) -> bool:
        """Drop the series of all nodes but these; whoever departed while this program was away is among them."""
        async with self._writing:
            try:
                for node in sorted(await asyncio.to_thread(self._database.nodes) - nodes):
                    await asyncio.to_thread(self._database.drop, node)
                    log.info("%s", line("series-dropped", node=node))
            except InfluxError as error:
                self._troubles.begin("influxdb", self._settings.influxdb_url, str(error))
                return False
        return True

    async def poll(self) -> None:
        """Ask all nodes at once, and write what they tell in one batch."""
        at = int(time.time())
        nodes = dict(self._agents)
        found = await asyncio.gather(*(self._read(node, agent) for node, agent in nodes.items()))
        points = [
            point(node, self._settings.stack, values, at)
            for node, values in zip(nodes, found, strict=True)
            if values and node in self._agents
        ]
        if points:
            self._database.add("\n".join(points))
        async with self._writing:
            await self._flush()

    async def _read(self, node: str, agent: Agent) -> Fields:
        """A node's figures; none when it doesn't answer in time, which must not hold up the others."""
        try:
            async with asyncio.timeout(self._settings.poll_seconds * 0.8):
                values = await agent.read()
        except TimeoutError:
            self._troubles.begin("node", node, "no answer in time")
        # Whatever a library may raise about one node is no reason to stop asking the others.
        except Exception as error:  # noqa: BLE001
            self._troubles.begin("node", node, str(error) or type(error).__name__)
        else:
            self._troubles.over("node", node)
            before, now = self._ticks.get(node), ticks(values)
            if now:
                self._ticks[node] = now
            return fields(values, before)
        self._ticks.pop(node, None)
        return {}

    async def _flush(self) -> None:
        try:
            await asyncio.to_thread(self._database.flush)
        except InfluxError as error:
            self._troubles.begin("influxdb", self._settings.influxdb_url, str(error))
        else:
            self._troubles.over("influxdb", self._settings.influxdb_url)

    async def run(self, alive: Callable[[], None]) -> None:
        """Do both for good. alive: called after each round of polling."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(self._settings.poll_seconds, self._round(alive)))
            group.create_task(self._discovering())

    def _round(self, alive: Callable[[], None]) -> Callable[[], Awaitable[None]]:
        async def one() -> None:
            await self.poll()
            alive()

        return one

    @staticmethod
    async def _every(seconds: float, do: Callable[[], Awaitable[None]]) -> None:
        """Begin at a steady pace, whatever each takes; a beginning that was missed is left out."""
        clock = asyncio.get_running_loop()
        due = clock.time()
        while True:
            await do()
            due = max(due + seconds, clock.time())
            await asyncio.sleep(due - clock.time())

    async def _discovering(self) -> None:
        settings = self._settings
        while True:
            done = await self.discover()
            await asyncio.sleep(settings.discover_seconds if done else settings.poll_seconds)

    async def stop(self) -> None:
        """Write what waits, and end what is open."""
        async with self._writing:
            await self._flush()
        for agent in self._agents.values():
            agent.close()
        if self._database.waiting:
            log.warning("%s", line("points-lost", rounds=self._database.waiting))
