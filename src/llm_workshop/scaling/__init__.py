"""Experiments of week 5: runs of many sizes and settings, the laws behind them, and what makes a step fast."""
