"""What is wrong with a step, and what is slow about it: what it does that it need not, and where its time goes."""

from collections.abc import Iterator

from bench.check.asked import Asked
from bench.check.steps import Outcome, Times
from bench.check.watch import counted_places
from bench.errors import counted
from bench.models.layers import layers_of
from bench.spec.run import RunSpec
from bench.store.measured import Finding, FindingState, MeasuredStep

# A step may take so many times what its FLOPs over those of our dense step say, and its parts such shares of it.
MOST_OVER_DENSE = 1.25
MOST_SHARE = {"input": 0.2, "masks": 0.15}
MOST_UPDATE = 50.0  # steps
LEAST_OVER_FORWARD = 0.7
MOST_NAMES, MOST_LETTERS = 3, 160


def explain(asked: Asked, outcome: Outcome, chip: float | None) -> Finding:
    """Return what is wrong with a step and slow about it, and its numbers; chip: TFLOP/s of a large matrix product."""
    wrong, slow = list(_wrong(outcome)), list(_slow(asked, outcome))
    state: FindingState = "wrong" if wrong else "slow" if slow else "ok"
    return Finding(name=asked.name, state=state, detail="; ".join([*wrong, *slow, _numbers(outcome.measured, chip)]))


def _wrong(outcome: Outcome) -> Iterator[str]:
    watched = outcome.watched
    if watched.waits:
        yield f"a step waits for the device: {counted_places(watched.waits)}; nothing of it may be read between steps"
    if watched.copies:
        yield f"a step copies weights or their gradients: {counted_places(watched.copies)}"
    if watched.formats:
        names = list(dict.fromkeys(watched.formats))
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        yield (
            f"channels_last is asked for, but images reach {', '.join(names[:MOST_NAMES])}{more} in another format: "
            "a layer before changes it, or the images have it not"
        )


def _slow(asked: Asked, outcome: Outcome) -> Iterator[str]:
    measured, ratio = outcome.measured, outcome.measured.over_dense or 1.0
    if copied := outcome.watched.accumulated:
        yield f"autograd copies gradients whose strides are not their weights': {counted_places(copied)}"
    if breaks := outcome.watched.breaks:
        why = breaks[0] if len(breaks[0]) <= MOST_LETTERS else f"{breaks[0][:MOST_LETTERS]}..."
        yield f"torch.compile divides the network, for {counted(len(breaks), 'reason')}: {why}"
    expected = flops_over_dense(asked)
    if ratio > MOST_OVER_DENSE * expected:
        flops = f" with {expected:.2f} of its FLOPs" if expected > 1.01 else ""
        yield f"it takes longer than our dense step{flops}: {_grown(outcome.times, outcome.dense)}"
    for part, most in MOST_SHARE.items():
        share = measured.parts.get(part, 0.0)
        if share > most:
            yield f"{share:.0%} of a step is {part} (at most {most:.0%}): {_where(measured.parts)}"
    if measured.update_over_step is not None and measured.update_over_step > MOST_UPDATE:
        yield f"an update of the masks takes {measured.update_over_step:.0f} steps"
    if measured.over_forward is not None and measured.over_forward < LEAST_OVER_FORWARD:
        yield f"evaluation has {measured.over_forward:.2f} of the speed of its bare forward passes: images are late"


def flops_over_dense(asked: Asked) -> float:
    """Return the FLOPs of a step, its network dense, over those of our dense step of as many inputs."""
    return _inputs_flops(asked.spec) / _inputs_flops(asked.dense)


def _inputs_flops(spec: RunSpec) -> float:
    return float(sum(layer.flops for layer in layers_of(spec.model, spec.data)))


def _grown(times: Times, dense: Times) -> str:
    """Return the parts that take longer than in our dense step, the largest difference first."""
    grown = {part: seconds - dense.parts.get(part, 0.0) for part, seconds in times.parts.items()}
    parts = sorted((part for part in grown if grown[part] > 0.02 * times.step), key=lambda part: -grown[part])
    if not parts:
        return "no part of it by itself; other work on this machine may be the reason"
    return ", ".join(
        f"{part} {1e3 * times.parts[part]:.3g} ms for {1e3 * dense.parts.get(part, 0.0):.3g} ms" for part in parts
    )


def _where(parts: dict[str, float]) -> str:
    shown = {part: share for part, share in parts.items() if share >= 0.005}
    return ", ".join(f"{part} {share:.0%}" for part, share in sorted(shown.items(), key=lambda item: -item[1]))


def _numbers(step: MeasuredStep, chip: float | None) -> str:
    """Return what was measured of a step, in a line."""
    found = [
        f"{step.images_per_second:,.0f} images/s" if step.images_per_second >= 10 else f"{step.seconds:.1f} s a step",
        "" if step.over_dense is None else f"{step.over_dense:.2f} of our dense step",
        "" if step.update_over_step is None else f"an update of the masks takes {step.update_over_step:.2g} steps",
        f"{step.tflops / chip:.0%} of the chip" if chip else "",
        "" if step.host_bytes is None else f"{step.host_bytes / 1e9:.1f} GB",
        "" if step.device_bytes is None else f"{step.device_bytes / 1e9:.1f} GB of the GPU",
        "" if step.compile_seconds is None else f"compiled in {step.compile_seconds:.0f} s",
        "" if step.over_forward is None else f"evaluation {step.over_forward:.2f} of bare forward passes",
    ]
    return f"{', '.join(filter(None, found))} ({_where(step.parts)})"
