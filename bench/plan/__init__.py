"""From cells to the distinct runs behind them: order, status, cost, selection, and how a plan is shown."""

from bench.plan.make import CellPlan, Plan, RunPlan, find_scale, make_plan
from bench.plan.selection import select
from bench.plan.show import print_plan, to_json

__all__ = ["CellPlan", "Plan", "RunPlan", "find_scale", "make_plan", "print_plan", "select", "to_json"]
