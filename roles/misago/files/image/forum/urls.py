"""The forum's addresses: Misago's own, and its translations for the browser."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from django.utils import timezone
from django.views.decorators.cache import cache_page
from django.views.decorators.http import last_modified
from django.views.i18n import JavaScriptCatalog
from misago import __version__
from misago.users.forms.auth import AdminAuthenticationForm

TRANSLATION_SECONDS = 21 * 24 * 3600
STARTED = timezone.now()

admin.autodiscover()
admin.site.login_form = AdminAuthenticationForm

_translations = JavaScriptCatalog.as_view(packages=["misago"])
_cached = cache_page(TRANSLATION_SECONDS, key_prefix=f"i18n-{settings.LANGUAGE_CODE}-{__version__}")
_dated = last_modified(lambda request, **kwargs: STARTED)

urlpatterns = [
    path("", include("misago.urls", namespace="misago")),
    path("django-i18n.js", _dated(_cached(_translations)), name="django-i18n"),
    path("django-admin/", admin.site.urls),
]

# Misago's middleware raises what only these can render.
handler403 = "misago.core.errorpages.permission_denied"
handler404 = "misago.core.errorpages.page_not_found"
