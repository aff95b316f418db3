"""Optimizers: how a step is made out of gradients."""

from minigrad.optim.adam import Adam, AdamW
from minigrad.optim.momentum import Momentum
from minigrad.optim.optimizer import Optimizer
from minigrad.optim.rmsprop import RMSprop
from minigrad.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Momentum", "Optimizer", "RMSprop"]
