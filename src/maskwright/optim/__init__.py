"""Optimizers from torch.optim, their parameter groups, and learning-rate schedules."""
