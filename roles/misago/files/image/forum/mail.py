"""E-mail by way of Celery, so that only the worker needs a way out to the mail server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import shared_task
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.mail.backends.base import BaseEmailBackend

SMTP = "django.core.mail.backends.smtp.EmailBackend"


@shared_task(  # type: ignore[untyped-decorator]  # no types are published
    name="forum.mail.deliver",
    serializer="json",
    autoretry_for=(OSError,),
    max_retries=8,
    retry_backoff=30,
    # Below the broker's visibility time-out: a message that waits longer would be handed out twice.
    retry_backoff_max=300,
)
def deliver(fields: dict[str, Any], alternatives: list[list[str]]) -> None:
    """Sends one message by SMTP. A server that can't be reached is tried again for half an hour."""
    message = EmailMultiAlternatives(**fields, connection=get_connection(SMTP))
    for content, kind in alternatives:
        message.attach_alternative(content, kind)
    message.send()


class QueuedEmailBackend(BaseEmailBackend):  # type: ignore[misc]  # no types are published
    """Queues each message for the worker. Attachments are not carried: Misago sends none."""

    def send_messages(self, email_messages: Sequence[Any]) -> int:
        """Queues Django's messages. Returns how many."""
        for message in email_messages:
            deliver.delay(
                {
                    "subject": str(message.subject),
                    "body": str(message.body),
                    "from_email": str(message.from_email),
                    "to": [str(address) for address in message.to],
                    "cc": [str(address) for address in message.cc],
                    "bcc": [str(address) for address in message.bcc],
                    "reply_to": [str(address) for address in message.reply_to],
                    "headers": {str(name): str(value) for name, value in message.extra_headers.items()},
                },
                [[str(content), str(kind)] for content, kind in getattr(message, "alternatives", [])],
            )
        return len(email_messages)
