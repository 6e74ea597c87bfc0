"""Log lines as Docker's driver writes them, sent to a node's shipper."""

from __future__ import annotations

from testinfra.host import Host

SOCKET = "/run/forum-log/socket"
_PROGRAM = """
import datetime, socket, sys, time
service, message, count, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
age = datetime.timedelta(seconds=float(sys.argv[6]))
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sender.connect(sys.argv[5])
tag = f"forum_{service}.1.abcdefghijklmnopqrstuvwxy/0123456789ab"
for number in range(count):
    now = (datetime.datetime.now(datetime.timezone.utc) - age).isoformat()
    sender.send(f"<30>1 {now} node {tag} 1 {tag} - {message.replace('NUMBER', str(number))}".encode())
    time.sleep(seconds)
"""


def send(node: Host, service: str, message: str, count: int = 1, seconds: float = 0, age: float = 0) -> None:
    """Send a message of a service some times, with its number in the place of NUMBER and a pause behind each.

    age: seconds since Docker had it.
    """
    words = (service, message, str(count), str(seconds), SOCKET, str(age))
    node.check_output("python3 -c %s" + " %s" * len(words), _PROGRAM, *words)
