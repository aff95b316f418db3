"""Modules, their parameters, and the functions behind them."""

from minigrad.nn.module import Buffer, Module, Parameter

__all__ = ["Buffer", "Module", "Parameter"]
