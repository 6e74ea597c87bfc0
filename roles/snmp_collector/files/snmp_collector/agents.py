"""The nodes' snmpd, asked by SNMPv3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pysnmp.hlapi.v3arch.asyncio import (
    USM_AUTH_HMAC192_SHA256,
    USM_PRIV_CFB128_AES,
    ContextData,
    ObjectIdentity,
    ObjectType,
    OctetString,
    SnmpEngine,
    UdpTransportTarget,
    UsmUserData,
    get_cmd,
)
from pysnmp.proto.rfc1905 import EndOfMibView, NoSuchInstance, NoSuchObject
from pysnmp.proto.secmod.rfc3826.priv.aes import Aes

from .figures import INTERFACE, OBJECTS, PACKETS
from .settings import Settings

_NOTHING = (NoSuchObject, NoSuchInstance, EndOfMibView)


class AgentError(Exception):
    """A node didn't answer, or refused to."""


class EncryptionError(Exception):
    """The library can't encrypt."""


def require_encryption() -> None:
    """Encrypt something: a library that can't would say so of every node, and only then. Raises EncryptionError."""
    try:
        Aes().encrypt_data(OctetString(bytes(Aes.KEY_SIZE)), (0, 0, None), b"anything")
    except Exception as error:
        raise EncryptionError(
            f"pysnmp can't encrypt with the cryptography that is installed: {error}"
        ) from error


class Agent:
    """One node's snmpd."""

    def __init__(self, address: str, settings: Settings) -> None:
        self.address = address
        self._settings = settings
        self._engine: Any = None
        self._user = UsmUserData(
            settings.snmp_user,
            authKey=settings.snmp_auth_password,
            privKey=settings.snmp_privacy_password,
            authProtocol=USM_AUTH_HMAC192_SHA256,
            privProtocol=USM_PRIV_CFB128_AES,
        )

    async def read(self) -> dict[str, int]:
        """All that is asked of a node: object -> number, without what it doesn't have. Raises AgentError."""
        try:
            values = await self._get({**OBJECTS, "interface": f"{INTERFACE}.{self.address}"})
            if number := values.pop("interface", None):
                values |= await self._get({name: f"{oid}.{number}" for name, oid in PACKETS.items()})
        except BaseException:
            # What is known of the node's engine may be wrong from now on: it may be another one.
            self.close()
            raise
        return values

    async def _get(self, objects: Mapping[str, str]) -> dict[str, int]:
        if self._engine is None:
            self._engine = SnmpEngine()
        target = await UdpTransportTarget.create(
            (self.address, self._settings.snmp_port), timeout=self._settings.patience_seconds, retries=1
        )
        wanted = [ObjectType(ObjectIdentity(oid)) for oid in objects.values()]
        failed, status, _, bindings = await get_cmd(
            self._engine, self._user, target, ContextData(), *wanted, lookupMib=False
        )
        if failed or status:
            raise AgentError(str(failed) if failed else str(status.prettyPrint()))
        return {
            name: int(value)
            for name, (_, value) in zip(objects, bindings, strict=True)
            if not isinstance(value, _NOTHING)
        }

    def close(self) -> None:
        """Forget the node's engine, and end the socket."""
        if self._engine is not None:
            self._engine.close_dispatcher()
            self._engine = None
