"""From cells to the distinct runs behind them: order, status, cost, selection, and how a plan is shown."""

from bench.plan.images import variants_of
from bench.plan.make import find_scale, make_plan
from bench.plan.near_misses import near_misses
from bench.plan.records import CellPlan, EnsemblePlan, Plan, RunPlan
from bench.plan.selection import select
from bench.plan.several import Together, print_several, several_to_json
from bench.plan.show import print_plan, to_json
from bench.plan.work import work_of

__all__ = [
    "CellPlan",
    "EnsemblePlan",
    "Plan",
    "RunPlan",
    "Together",
    "find_scale",
    "make_plan",
    "near_misses",
    "print_plan",
    "print_several",
    "select",
    "several_to_json",
    "to_json",
    "variants_of",
    "work_of",
]
