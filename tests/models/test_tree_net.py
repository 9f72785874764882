"""TreeNet: what members share, what they don't, and each member against the plain network it is."""

import pytest
import torch

from bench.models.build import build_model
from bench.models.catalog import NETWORKS
from bench.models.tree_net import TreeNetwork
from bench.spec.run import ModelSpec, TreeNet

CASES = [
    (ModelSpec(name="wide_resnet", arguments={"depth": 10, "width": 1}), 0),
    (ModelSpec(name="wide_resnet", arguments={"depth": 16, "width": 1}), 3),
    (ModelSpec(name="wide_resnet", arguments={"depth": 10, "width": 1}), 3),
    (ModelSpec(name="resnet_cifar", arguments={"depth": 18}), 1),
    (ModelSpec(name="resnet_imagenet", arguments={"depth": 18}), 2),
]
each_case = pytest.mark.parametrize(
    ("plain", "head_blocks"), CASES, ids=[f"{spec.name}-{spec.arguments['depth']}-{k}" for spec, k in CASES]
)
IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([1, 2, 3, 4])


def build(plain: ModelSpec, head_blocks: int, members: int = 3) -> TreeNetwork:
    kind = TreeNet(members=members, head_blocks=head_blocks)
    model = build_model(plain.model_copy(update={"ensemble": kind}), 10, seed=0)
    assert isinstance(model, TreeNetwork)
    return model


@each_case
def test_a_member_is_the_plain_network_of_the_trunk_and_its_head(plain: ModelSpec, head_blocks: int) -> None:
    tree = build(plain, head_blocks)
    tree(IMAGES)  # moves the running statistics
    for mode in (True, False):
        logits = tree.train(mode)(IMAGES)
        for member in range(3):
            alone = build_model(plain, 10, seed=1)
            state = {
                name.removeprefix(prefix): tensor
                for prefix in ("trunk.", f"heads.{member}.")
                for name, tensor in build_state(tree).items()
                if name.startswith(prefix)
            }
            alone.load_state_dict(state)  # strict: nothing is missing, nothing is left
            torch.testing.assert_close(alone.train(mode)(IMAGES), logits[:, member])


def build_state(tree: TreeNetwork) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in tree.state_dict().items()}


@each_case
def test_a_members_loss_reaches_the_trunk_and_its_own_head_alone(plain: ModelSpec, head_blocks: int) -> None:
    tree = build(plain, head_blocks)
    for member in range(3):
        tree.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(tree(IMAGES)[:, member], LABELS).backward()
        touched = {name for name, p in tree.named_parameters() if p.grad is not None and p.grad.any()}
        expected = {n for n, _ in tree.named_parameters() if n.startswith(("trunk.", f"heads.{member}."))}
        assert touched == expected


@each_case
def test_the_head_has_the_blocks_that_the_spec_says(plain: ModelSpec, head_blocks: int) -> None:
    blocks = NETWORKS[plain.name].blocks(**plain.arguments)
    names = [name for name, _ in build(plain, head_blocks).named_parameters()]
    in_trunk = {block for block in blocks if any(name.startswith(f"trunk.{block}.") for name in names)}
    in_head = {block for block in blocks if any(name.startswith(f"heads.2.{block}.") for name in names)}
    assert in_head == set(blocks[len(blocks) - head_blocks :])
    assert in_trunk == set(blocks) - in_head


def test_heads_start_apart_and_a_tree_of_one_is_the_plain_network() -> None:
    plain, head_blocks = CASES[1]
    tree = build(plain, head_blocks)
    heads = [dict(head.named_parameters()) for head in tree.heads]
    for name, parameter in heads[0].items():
        if parameter.ndim >= 2:
            assert not parameter.equal(heads[1][name]), name
            assert not heads[1][name].equal(heads[2][name]), name
    single = build(plain, head_blocks, members=1)
    reference = build_model(plain, 10, seed=0)
    with torch.no_grad():
        assert single(IMAGES).squeeze(1).equal(reference(IMAGES))


def test_the_trunk_learns_from_the_mean_of_the_heads() -> None:
    plain, head_blocks = CASES[1]
    tree = build(plain, head_blocks).double()
    inputs, targets = tree.training_batch(IMAGES.double(), LABELS, seed=0)
    assert inputs.equal(IMAGES.double())
    assert targets.tolist() == [[label] * 3 for label in LABELS.tolist()]
    tree.loss(tree(inputs), targets, 0.0).backward()
    whole = [parameter.grad.clone() for parameter in tree.trunk.parameters()]
    tree.zero_grad(set_to_none=True)
    for member in range(3):
        (torch.nn.functional.cross_entropy(tree(inputs)[:, member], LABELS) / 3).backward()
    for ours, parameter in zip(whole, tree.trunk.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter.grad)


def test_a_head_of_more_blocks_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="head_blocks is at most 3, all residual blocks, not 4"):
        build(CASES[0][0], 4)
