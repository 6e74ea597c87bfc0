"""Runs Pgpool-II and tells it who is primary: left alone, it doesn't notice a promotion by repmgr for minutes."""
