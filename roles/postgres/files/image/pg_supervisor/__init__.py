"""Keeps one PostgreSQL member in its place: start, majority, votes and fencing. Failover is repmgr's."""
