"""What a member uploads through one edge is served by all of them."""

import secrets
import struct
import zlib
from collections.abc import Callable

from drills.browser import Browser, Reply
from drills.forum import Account, Visitor
from drills.lab import Lab

Guest = Callable[..., Visitor]
Member = Callable[..., tuple[Visitor, Account]]
SIDE = 400


def picture(side: int = SIDE) -> bytes:
    """A square PNG of one random colour."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    colour = secrets.token_bytes(3)
    rows = (b"\0" + colour * side) * side
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def send_form(browser: Browser, path: str, fields: dict[str, str], file_field: str, content: bytes) -> Reply:
    """POST a form with one PNG file, as a browser encodes it."""
    boundary = secrets.token_hex(16)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    disposition = f'form-data; name="{file_field}"; filename="picture.png"'
    parts.append(
        f"--{boundary}\r\nContent-Disposition: {disposition}\r\nContent-Type: image/png\r\n\r\n".encode()
    )
    body = b"".join([*parts, content, f"\r\n--{boundary}--\r\n".encode()])
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return browser.request("POST", path, body=body, headers=kind)


def test_an_attachment_is_served_by_every_edge(lab: Lab, guest: Guest, member: Member) -> None:
    visitor, _ = member()
    content = picture()
    uploaded = send_form(visitor.browser, "/api/attachments/", {}, "upload", content)
    assert uploaded.status == 200, uploaded.text
    attachment = uploaded.json()
    thread = visitor.start_thread(3, "A thread with a picture", f"Look: {attachment['url']['index']}")
    for edge in lab.forum_urls:
        redirect = visitor.browser.get(attachment["url"]["index"] + "?shva=1", edge=edge)
        assert redirect.status == 302
        served = guest(edge).browser.get(redirect.headers["location"])
        assert (served.status, served.headers["content-type"]) == (200, "image/png")
        assert served.body == content
        assert "nosniff" in served.headers["x-content-type-options"]
    assert thread


def test_an_avatar_is_served_by_every_edge(lab: Lab, guest: Guest, member: Member) -> None:
    visitor, _ = member()
    path = f"/api/users/{visitor.who()['id']}/avatar/"
    uploaded = send_form(visitor.browser, path, {"avatar": "upload"}, "image", picture())
    assert uploaded.status == 200, uploaded.text
    cropped = visitor.browser.post(
        path, {"avatar": "crop_tmp", "crop": {"offset": {"x": 0, "y": 0}, "zoom": 1}}
    )
    assert cropped.status == 200, cropped.text
    urls = [avatar["url"] for avatar in cropped.json()["avatars"]]
    assert urls
    for url in urls:
        served = [guest(edge).browser.get(url) for edge in lab.forum_urls]
        assert {reply.status for reply in served} == {200}, url
        assert {reply.headers["content-type"] for reply in served} == {"image/png"}
        assert len({reply.body for reply in served}) == 1, url


def test_a_page_cannot_be_uploaded_as_a_picture(member: Member) -> None:
    visitor, _ = member()
    refused = send_form(visitor.browser, "/api/attachments/", {}, "upload", b"<html><script></script></html>")
    assert refused.status == 400
