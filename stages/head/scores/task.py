"""The task of a collection: what depends on whether its clips carry one label, several labels, or a number.

A task decides what a network puts out, which loss it learns from, how scores become decisions, which metrics judge
them and how these are printed. Heads, the training loop and reports ask the task and never which one it is.
"""

from __future__ import annotations

from collections.abc import Container

from stages.head.scores.base import Task, Truth
from stages.head.scores.labels import MultiLabel, SingleLabel
from stages.head.scores.regression import Regression

__all__ = ["METRICS", "MULTI_LABEL", "REGRESSION", "SINGLE_LABEL", "TASKS", "Task", "task_judged_by", "task_of"]

MULTI_LABEL, SINGLE_LABEL, REGRESSION = MultiLabel(), SingleLabel(), Regression()
TASKS: dict[str, Task] = {task.NAME: task for task in (MULTI_LABEL, SINGLE_LABEL, REGRESSION)}
METRICS = {metric.name: metric for task in TASKS.values() for metric in task.METRICS}


def task_of(truth: Truth) -> Task:
    """The task of a collection: multi-label where any of its clips carries more than one label."""
    return MULTI_LABEL if (truth.sum(axis=1) > 1).any() else SINGLE_LABEL


def task_judged_by(names: Container[str]) -> Task:
    """The task that metrics of these names judge; stored runs of earlier versions name no task, but have metrics."""
    return next((task for task in TASKS.values() if task.main.name in names), SINGLE_LABEL)
