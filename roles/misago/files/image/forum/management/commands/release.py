"""What a release needs once, however many replicas there are: static files, schema, settings, administrator.

Every step may be repeated. The first that fails ends the program with exit code 1, and the lines of the steps
before it say what was done until then. Secrets are never printed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import InterfaceError, OperationalError, connection
from django.db.migrations.executor import MigrationExecutor
from misago.conf.cache import clear_settings_cache
from misago.conf.models import Setting
from misago.conf.shortcuts import get_dynamic_settings
from misago.users.setupnewuser import setup_new_user
from misago.users.validators import validate_email, validate_username
from redis.exceptions import RedisError

from ...environment import Environment
from ...publish import publish
from ...release import ReleaseError, run_steps, wait_for

# Any number, as long as it is always the same: one release at a time.
LOCK = 0x4D697361676F


def ask_database() -> None:
    """Raises OperationalError unless a primary answers: a standby answers too, but can't be migrated."""
    connection.close_if_unusable_or_obsolete()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_is_in_recovery()")
        if cursor.fetchone()[0]:
            raise OperationalError("the server is a standby")


def ask_cache() -> None:
    """Raises RedisError unless a master answers."""
    cache.set("release", "asked", 60)


def migrate() -> dict[str, Any]:
    """Brings the schema up to date. Returns how many migrations that took."""
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout TO 0")
        cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        # Django asks for UTC on every connection; a default of the role saves that round trip.
        cursor.execute("ALTER ROLE CURRENT_USER SET timezone TO 'UTC'")
        cursor.execute("ALTER ROLE CURRENT_USER SET idle_in_transaction_session_timeout TO '60s'")
    executor = MigrationExecutor(connection)
    pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
    call_command("migrate", interactive=False, verbosity=0)
    return {"applied": len(pending)}


def configure(wanted: dict[str, Any]) -> dict[str, Any]:
    """Gives Misago's own settings (a table, not Django's) their values. Returns which ones changed."""
    changed = []
    for name, value in sorted(wanted.items()):
        try:
            setting = Setting.objects.get(setting=name)
        except Setting.DoesNotExist:
            raise ReleaseError(f"Misago has no setting {name!r}: see misago_forum_settings") from None
        if setting.python_type == "image":
            raise ReleaseError(f"the setting {name!r} is a picture: set it in the forum's administration")
        if setting.value != value:
            setting.value = value
            setting.save()
            changed.append(name)
    if changed:
        clear_settings_cache()
    return {"changed": changed}


def create_administrator(name: str, email: str, password: str, enforce: bool) -> dict[str, Any]:
    """Makes sure that the administrator exists. enforce: set the password of an existing one, too.

    Returns his name and what was done. Raises ReleaseError if the name belongs to somebody who is no
    administrator, or Misago refuses name or address.
    """
    users = get_user_model().objects
    user = users.filter(slug=name.lower()).first()
    if user is None:
        dynamic_settings = get_dynamic_settings()
        try:
            validate_username(dynamic_settings, name)
            validate_email(email)
        except ValidationError as error:
            raise ReleaseError(f"administrator {name!r}, {email!r}: {'; '.join(error.messages)}") from None
        user = users.create_superuser(name, email, password)
        setup_new_user(dynamic_settings, user)
        done = "created"
    elif not (user.is_superuser and user.is_staff):
        raise ReleaseError(f"{name!r} is an ordinary user of the forum: choose another misago_admin_user")
    elif enforce and not user.check_password(password):
        user.set_password(password)
        user.save(update_fields=["password"])
        done = "password set"
    else:
        done = "unchanged"
    return {"name": name, "administrator": done}


class Command(BaseCommand):  # type: ignore[misc]  # no types are published
    """django-admin release."""

    help = "Prepares what a release needs once: static files, schema, settings, administrator."

    def handle(self, *args: Any, **options: Any) -> None:
        """Runs the steps and ends the program with their exit code."""
        environment = Environment("MISAGO_")
        seconds = environment.number("RELEASE_WAIT", 180)
        not_yet = (OperationalError, InterfaceError)
        wanted = {
            **json.loads(environment.text("FORUM_SETTINGS", "{}")),
            "forum_name": environment.text("FORUM_NAME", "Misago"),
            "forum_address": settings.MISAGO_ADDRESS,
        }
        source, target = Path(settings.STATIC_ROOT), Path(settings.FORUM_PUBLISHED_STATIC)
        keep_days = environment.number("STATIC_KEEP_DAYS", 90)
        name = environment.text("ADMIN_NAME", "admin")
        email = environment.text("ADMIN_EMAIL", f"{name}@{settings.DOMAIN}")
        password = environment.text("ADMIN_PASSWORD")
        enforce = environment.flag("ADMIN_PASSWORD_ENFORCED", False)
        sys.exit(
            run_steps(
                [
                    ("wait for PostgreSQL", lambda: wait_for("PostgreSQL", ask_database, not_yet, seconds)),
                    ("wait for Redis", lambda: wait_for("Redis", ask_cache, (RedisError,), seconds)),
                    ("publish static files", lambda: dict(publish(source, target, keep_days))),
                    ("migrate", migrate),
                    ("configure", lambda: configure(wanted)),
                    ("administrator", lambda: create_administrator(name, email, password, enforce)),
                ]
            )
        )
