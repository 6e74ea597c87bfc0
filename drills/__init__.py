"""Failure drills: a write ledger through the real forum, the state of every tier, and a report.

`python -m drills.steps --help` lists the steps; `playbooks/drill.yml` runs them in order.
"""
