"""Django looks here for our commands."""
