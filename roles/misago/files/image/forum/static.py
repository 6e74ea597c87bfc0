"""Static files under names that carry a hash of their content, so that a browser may keep them for a year."""

from django.contrib.staticfiles.storage import ManifestStaticFilesStorage


class HashedStaticFilesStorage(ManifestStaticFilesStorage):  # type: ignore[misc]  # no types are published
    """A file that the manifest does not know keeps its plain name: a theme's mistake must not end a page."""

    manifest_strict = False
