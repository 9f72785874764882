"""Ghost batches: each is normalised as a batch of its own, and one process computes what two do."""

import pytest
import torch
from torch import nn

from bench.errors import UserError
from bench.models.ghost import ghosts
from bench.training.sync_norm import check_ghosts
from tests.training.runs import DATA, dense_spec

IMAGES = torch.randn(10, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def test_each_ghost_batch_is_normalised_by_itself() -> None:
    ghost, plain = ghosts(nn.BatchNorm2d(3), 4), nn.BatchNorm2d(3)
    torch.testing.assert_close(ghost(IMAGES), torch.cat([nn.BatchNorm2d(3)(part) for part in IMAGES.split(4)]))
    plain(IMAGES[:4])
    assert torch.equal(ghost.running_mean, plain.running_mean)
    assert torch.equal(ghost.running_var, plain.running_var)
    assert ghost.state_dict().keys() == plain.state_dict().keys()


def test_evaluation_is_that_of_batch_norm() -> None:
    ghost, plain = ghosts(nn.BatchNorm2d(3), 4).eval(), nn.BatchNorm2d(3).eval()
    assert torch.equal(ghost(IMAGES), plain(IMAGES))


@pytest.mark.parametrize(
    ("images", "ranks", "same"), [(128, 2, True), (127 + 128, 2, True), (100 + 128, 2, False), (128, 4, False)]
)
def test_ranks_that_would_make_other_ghost_batches_are_refused(images: int, ranks: int, same: bool) -> None:
    model = dense_spec().model.model_copy(update={"arguments": {"depth": 50, "init": "fan_out", "ghost_batch": 64}})
    spec = dense_spec(batch_size=128, model=model, data=DATA.model_copy(update={"train_images": images}))
    if same:
        check_ghosts(spec, ranks)
    else:
        with pytest.raises(UserError, match=rf"model\.ghost_batch: {ranks} processes divide a batch of"):
            check_ghosts(spec, ranks)
