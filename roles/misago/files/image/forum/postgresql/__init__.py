"""Django's PostgreSQL engine for a database that fails over behind Pgpool: see base.py."""
