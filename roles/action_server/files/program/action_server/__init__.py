"""The monitoring machine's server for operators: the status board, and what is done about alarms."""
