"""Where Ansible finds the strategy that scripts/lab chooses, whatever Python the virtual environment has."""

from ansible_mitogen.plugins.strategy.mitogen_linear import StrategyModule

__all__ = ["StrategyModule"]
