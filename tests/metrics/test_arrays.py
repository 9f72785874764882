"""Every metric gives of tensors and lists what it gives of arrays."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bench import metrics

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(3, 40, 5)).round(2)
MEMBERS = metrics.softmax(LOGITS)
MASKS = {"first": RNG.random((4, 6)) < 0.5, "last": RNG.random((3, 2, 2, 2)) < 0.5}
WEIGHTS = {name: RNG.normal(size=mask.shape) * mask for name, mask in MASKS.items()}
SEVERITIES = {("fog", severity): (RNG.random(20), (RNG.random(20) < 0.5).astype(float)) for severity in (1, 2)}
# By the name of the parameter; the metrics with other parameters have arguments of their own below.
VALUES: dict[str, Any] = {
    "members": MEMBERS,
    "probabilities": MEMBERS[0],
    "logits": LOGITS[0],
    "labels": RNG.integers(0, 5, 40),
    "pairs": np.array([[0, 1], [0, 2], [7, 4]]),
    "inside": RNG.random(30),
    "outside": RNG.random(20) + 0.3,
    "matrix": metrics.disagreement_matrix(MEMBERS),
    "temperature": 1.7,
    "predictions": SEVERITIES,
    "first": MASKS,
    "second": {name: ~mask for name, mask in MASKS.items()},
}
OF_WEIGHTS = {"first": WEIGHTS, "second": {name: 2 * weight + 1 for name, weight in WEIGHTS.items()}}
# These take no array: numbers, names, or curves that `reliability` made.
WITHOUT_ARRAYS = {
    "corrupted_ece_names",
    "corruption_errors",
    "mean_corrupted_ece",
    "mean_corruption_error",
    "pooled_corrupted_ece",
}
NAMES = [name for name in metrics.__all__ if inspect.isfunction(getattr(metrics, name)) and name not in WITHOUT_ARRAYS]


def tensor(values: np.ndarray[Any, Any]) -> torch.Tensor:
    made = torch.from_numpy(values.copy())
    return made.requires_grad_() if made.is_floating_point() else made


def changed(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {key: changed(inner, change) for key, inner in value.items()}
    if isinstance(value, tuple):
        return tuple(changed(inner, change) for inner in value)
    return change(value) if isinstance(value, np.ndarray) else value


def flat(result: Any) -> list[Any]:
    if isinstance(result, metrics.Reliability):
        result = vars(result)
    if isinstance(result, dict):
        return [item for key, value in result.items() for item in (key, *flat(value))]
    return [item for part in result for item in flat(part)] if isinstance(result, tuple) else [np.asarray(result)]


@pytest.mark.parametrize(
    "change",
    [tensor, np.ndarray.tolist, lambda values: [tensor(np.asarray(value)) for value in values]],
    ids=["tensors", "lists", "lists of tensors"],
)
@pytest.mark.parametrize("name", NAMES)
def test_tensors_and_lists_give_the_same_bits_as_arrays(name: str, change: Callable[[Any], Any]) -> None:
    metric = getattr(metrics, name)
    wanted = [p for p in inspect.signature(metric).parameters.values() if p.default is p.empty]
    values = OF_WEIGHTS if name == "weight_cosine" else VALUES
    arguments = {parameter.name: values[parameter.name] for parameter in wanted}
    expected = flat(metric(**arguments))
    found = flat(metric(**changed(arguments, change)))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_half_precision_is_read_exactly() -> None:
    for dtype in (torch.bfloat16, torch.float16):
        halves = torch.tensor([[0.75, 0.25], [0.375, 0.625]], dtype=dtype)
        assert metrics.negative_log_likelihood(halves, torch.tensor([0, 0])) == metrics.negative_log_likelihood(
            np.array([[0.75, 0.25], [0.375, 0.625]]), np.array([0, 0])
        )


def test_what_fits_no_metric_is_refused_as_an_array_is() -> None:
    with pytest.raises(ValueError, match="are these logits"):
        metrics.accuracy([[2.0, -1.0]], torch.tensor([0]))
    with pytest.raises(ValueError, match="must be 1 integers"):
        metrics.accuracy([[0.5, 0.5]], [0.0])
    with pytest.raises(ValueError, match="are these logits"):
        metrics.entropy([[2.0, -1.0]])
    with pytest.raises(ValueError, match="are these logits"):
        metrics.entropy([[float("nan"), 0.5]])
    with pytest.raises(ValueError, match="are these logits"):
        metrics.scale_probabilities([[2.0, -1.0]], 1.5)
    sigmoids = torch.tensor([[[0.9, 0.8], [0.5, 0.5]]])
    with pytest.raises(ValueError, match=r"probabilities of an image must sum to 1, found 1"):
        metrics.accuracy(sigmoids[0], [0, 1])
    with pytest.raises(ValueError, match="must sum to 1"):
        metrics.ensemble_mean(sigmoids)
    for pairs in ([[-1, 0]], [[0, 2]], [[1, 0]]):
        with pytest.raises(ValueError, match=r"pairs must be of images and classes below \(1, 2\)"):
            metrics.judged_labels([[0.5, 0.5]], pairs)
    with pytest.raises(ValueError, match=r"pairs must be \[K, 2\] integers"):
        metrics.judged_labels([[0.5, 0.5]], [0, 1])
