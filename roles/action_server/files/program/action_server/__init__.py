"""The monitoring machine's server for operators: the status board."""
