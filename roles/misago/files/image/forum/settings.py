"""Django's and Misago's settings, from the environment.

Every variable is described in the role's defaults/main.yml, which sets it in service.yml.j2.
"""

from __future__ import annotations

import logging
import os
from urllib.parse import quote

import loglines
from misago.settings import INSTALLED_APPS as MISAGO_APPS
from misago.settings import (
    INSTALLED_PLUGINS,  # noqa: F401 (Misago reads it from here)
    MISAGO_NOTIFICATIONS_RETRY_DELAY,  # noqa: F401 (the same)
    TEMPLATE_CONTEXT_PROCESSORS,
)

from . import logs
from .environment import Environment

environment = Environment("MISAGO_")

# Which of our programs this is: web, celery, maintenance or release. PostgreSQL shows it as application_name.
PROGRAM = environment.text("PROGRAM", "web")

# Ours, read by forum.postgresql, forum.cache, forum.wsgi and forum.release.
FORUM_PATIENCE = environment.number("PATIENCE", 4)
FORUM_STATEMENT_TIMEOUT = environment.number("STATEMENT_TIMEOUT", 15)
FORUM_PUBLISHED_STATIC = environment.text("STATIC_PATH", "/srv/static")

SECRET_KEY = environment.text("SECRET_KEY")
DEBUG = False

DOMAIN = environment.text("DOMAIN")
ALLOWED_HOSTS = [DOMAIN, *environment.items("HOSTS")]
# Read by the migration that creates the forum's settings, and by forum.release.
MISAGO_ADDRESS = environment.text("ADDRESS", f"https://{DOMAIN}/")

DATABASES = {
    "default": {
        "ENGINE": "forum.postgresql",
        "HOST": environment.text("DATABASE_HOST", "pgpool"),
        "PORT": environment.integer("DATABASE_PORT", 5432),
        "NAME": environment.text("DATABASE_NAME", "misago"),
        "USER": environment.text("DATABASE_USER", "misago"),
        "PASSWORD": environment.text("DATABASE_PASSWORD"),
        "CONN_MAX_AGE": environment.integer("DATABASE_MAX_AGE", 60),
        "CONN_HEALTH_CHECKS": True,
        # A cursor on the server would outlive the pooler's idea of whose turn it is.
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "OPTIONS": {
            "application_name": f"misago-{PROGRAM}",
            "sslmode": environment.text("DATABASE_SSLMODE", "prefer"),
            "gssencmode": "disable",
            # A Pgpool whose node is gone says nothing: given up within some three seconds.
            "connect_timeout": 2,
            "keepalives": 1,
            "keepalives_idle": 1,
            "keepalives_interval": 1,
            "keepalives_count": 2,
            "tcp_user_timeout": 3000,
        },
    }
}
# 'Misago requires PostgreSQL', which it knows by the name of Django's own engine; ours extends that.
SILENCED_SYSTEM_CHECKS = ["misago.001"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"

_redis_password = quote(environment.text("REDIS_PASSWORD"), safe="")
_redis = (
    f"redis://:{_redis_password}@"
    f"{environment.text('REDIS_HOST', 'haproxy')}:{environment.integer('REDIS_PORT', 6379)}"
)
_redis_sockets = {
    "socket_connect_timeout": 0.5,
    "socket_timeout": 2.0,
    "socket_keepalive": True,
    "health_check_interval": 10,
}
CACHES = {
    "default": {
        "BACKEND": "forum.cache.PatientRedisCache",
        "LOCATION": f"{_redis}/1",
        "KEY_PREFIX": "forum",
        "OPTIONS": {**_redis_sockets, "client_name": f"misago-{PROGRAM}"},
    }
}

# Sessions are read from Redis but kept in PostgreSQL: a Redis that loses its data signs nobody out.
SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
SESSION_COOKIE_SECURE = True
SESSION_COOKIE_HTTPONLY = True
CSRF_COOKIE_SECURE = True
CSRF_FAILURE_VIEW = "misago.core.errorpages.csrf_failure"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_REFERRER_POLICY = "strict-origin-when-cross-origin"
# The browser's headers are the edge's business: nginx sets them on every answer, also its own.
X_FRAME_OPTIONS = "SAMEORIGIN"

AUTH_USER_MODEL = "misago_users.User"
AUTHENTICATION_BACKENDS = ["misago.users.authbackends.MisagoBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator",
        "OPTIONS": {"user_attributes": ["username", "email"]},
    },
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": environment.integer("PASSWORD_LENGTH", 8)},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "misago:login"
LOGOUT_URL = "misago:logout"
LOGIN_REDIRECT_URL = "misago:index"

LANGUAGE_CODE = environment.text("LANGUAGE", "en-us")
TIME_ZONE = environment.text("TIME_ZONE", "UTC")
USE_I18N = True
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = "/opt/forum/static"
MEDIA_URL = "/media/"
MEDIA_ROOT = environment.text("MEDIA_PATH", "/srv/media")
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "forum.static.HashedStaticFilesStorage"},
}
FILE_UPLOAD_PERMISSIONS = 0o644
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o755

# Without a mail server nothing is sent. With one, the worker sends: only it needs a way out.
EMAIL_HOST = environment.optional("EMAIL_HOST")
EMAIL_PORT = environment.integer("EMAIL_PORT", 587)
EMAIL_HOST_USER = environment.optional("EMAIL_USER")
EMAIL_HOST_PASSWORD = environment.optional("EMAIL_PASSWORD")
EMAIL_USE_TLS = environment.text("EMAIL_SECURITY", "starttls") == "starttls"
EMAIL_USE_SSL = environment.text("EMAIL_SECURITY", "starttls") == "tls"
EMAIL_TIMEOUT = 20
EMAIL_BACKEND = (
    "forum.mail.QueuedEmailBackend" if EMAIL_HOST else "django.core.mail.backends.dummy.EmailBackend"
)
DEFAULT_FROM_EMAIL = environment.text("EMAIL_FROM", f"forum@{DOMAIN}")
SERVER_EMAIL = DEFAULT_FROM_EMAIL

INSTALLED_APPS = ["forum", *(app for app in MISAGO_APPS if app != "debug_toolbar")]
MIDDLEWARE = [
    "misago.users.middleware.RealIPMiddleware",
    "misago.core.middleware.FrontendContextMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "misago.cache.middleware.cache_versions_middleware",
    "misago.conf.middleware.dynamic_settings_middleware",
    "misago.socialauth.middleware.socialauth_providers_middleware",
    "misago.users.middleware.UserMiddleware",
    "forum.logs.gather_middleware",
    "misago.acl.middleware.user_acl_middleware",
    "misago.core.middleware.ExceptionHandlerMiddleware",
    "misago.users.middleware.OnlineTrackerMiddleware",
    "misago.admin.middleware.AdminAuthMiddleware",
    "misago.threads.middleware.UnreadThreadsCountMiddleware",
]
ROOT_URLCONF = "forum.urls"
WSGI_APPLICATION = "forum.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": TEMPLATE_CONTEXT_PROCESSORS},
    }
]

SOCIAL_AUTH_STRATEGY = "misago.socialauth.strategy.MisagoStrategy"
SOCIAL_AUTH_PIPELINE = (
    "social_core.pipeline.social_auth.social_details",
    "social_core.pipeline.social_auth.social_uid",
    "social_core.pipeline.social_auth.social_user",
    "misago.socialauth.pipeline.associate_by_email",
    "misago.socialauth.pipeline.validate_ip_not_banned",
    "misago.socialauth.pipeline.validate_user_not_banned",
    "misago.socialauth.pipeline.get_username",
    "misago.socialauth.pipeline.create_user_with_form",
    "social_core.pipeline.social_auth.associate_user",
    "social_core.pipeline.social_auth.load_extra_data",
    "misago.socialauth.pipeline.require_activation",
)
SOCIAL_AUTH_JSONFIELD_ENABLED = True

REST_FRAMEWORK = {
    "DEFAULT_PERMISSION_CLASSES": ["misago.core.rest_permissions.IsAuthenticatedOrReadOnly"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "EXCEPTION_HANDLER": "misago.core.exceptionhandler.handle_api_exception",
    "UNAUTHENTICATED_USER": "misago.users.models.AnonymousUser",
    "URL_FORMAT_OVERRIDE": None,
}

CELERY_BROKER_URL = f"{_redis}/0"
CELERY_BROKER_TRANSPORT_OPTIONS = {**_redis_sockets, "retry_on_timeout": True, "visibility_timeout": 600}
CELERY_BROKER_CONNECTION_TIMEOUT = 1.0
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# kombu's own tries end early when the broker fails over; forum.celery begins anew until patience ends.
CELERY_TASK_PUBLISH_RETRY_POLICY = {
    "max_retries": 2,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.2,
}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_MAX_TASKS_PER_CHILD = 200
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False

MISAGO_SEARCH_CONFIG = environment.text("SEARCH_CONFIG", "simple")
MISAGO_USER_DATA_DOWNLOADS_WORKING_DIR = "/tmp"  # noqa: S108 (the container's own tmpfs)
MISAGO_PROFILE_FIELDS = [
    {
        "name": "Personal",
        "fields": [
            "misago.users.profilefields.default.RealNameField",
            "misago.users.profilefields.default.GenderField",
            "misago.users.profilefields.default.BioField",
            "misago.users.profilefields.default.LocationField",
        ],
    },
    {
        "name": "Contact",
        "fields": [
            "misago.users.profilefields.default.TwitterHandleField",
            "misago.users.profilefields.default.SkypeIdField",
            "misago.users.profilefields.default.WebsiteField",
        ],
    },
    {"name": "IP address", "fields": ["misago.users.profilefields.default.JoinIpField"]},
]

loglines.hide(logs.own_secrets(os.environ))
logging.captureWarnings(True)
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "loglines.JsonLines", "dataset": logs.dataset(), "context": logs.context}},
    "filters": {
        "not_retried": {"()": "forum.retries.NotRetried"},
        "task_events": {"()": "forum.logs.TaskEvents"},
        "without_body": {"()": "forum.logs.WithoutBody"},
    },
    "handlers": {"stdout": {"class": "loglines.OneWrite", "formatter": "line"}},
    "root": {"handlers": ["stdout"], "level": environment.text("LOG_LEVEL", "WARNING")},
    # Django's default also mails errors to ADMINS, and says 'Not Found' for every wrong address.
    "loggers": {
        "django": {"handlers": ["stdout"], "level": "ERROR", "propagate": False},
        "django.request": {"filters": ["not_retried"]},
        # One line for each task.
        "celery.app.trace": {"level": "INFO", "filters": ["task_events"]},
        "celery.worker.consumer.consumer": {"filters": ["without_body"]},
    },
}
