"""Where Ansible finds the strategy of ansible.cfg, whatever Python the virtual environment has."""

from ansible_mitogen.plugins.strategy.mitogen_linear import StrategyModule

__all__ = ["StrategyModule"]
