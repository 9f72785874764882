"""Tickets as networks: their own weights, in order, ready to predict and to be attacked, damage named by file."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import bench
from bench.errors import UserError
from bench.evaluation.networks import load_networks, normaliser
from bench.spec.run import MASK_PREFIX, ModelSpec, RunSpec
from bench.spec.seeds import derived_seed
from tests.evaluation.stored import SPECS, finished_run, model_of, networks_of, normalised, random_images, random_model
from tests.store.runs import result_facts, ticket
from tests.training.runs import CPU, dense_spec, edst_spec

IMAGES = normalised(random_images(6))


@pytest.mark.parametrize("kind", SPECS)
def test_tickets_come_in_order_with_their_weights_and_without_masks(tmp_path: Path, kind: str) -> None:
    spec = SPECS[kind]
    networks = networks_of(tmp_path, spec)
    assert [network.index for network in networks] == list(range(spec.tickets))
    for network in networks:
        state = network.model.state_dict()
        expected = random_model(spec, network.index).state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
        assert not any(name.startswith(MASK_PREFIX) for name in state)


@pytest.mark.parametrize("kind", SPECS)
def test_a_network_is_in_evaluation_mode_and_only_its_images_have_gradients(tmp_path: Path, kind: str) -> None:
    for network in networks_of(tmp_path, SPECS[kind]):
        before = {name: tensor.clone() for name, tensor in network.model.state_dict().items()}
        assert not any(module.training for module in network.model.modules())
        images = IMAGES.clone().requires_grad_()
        logits = network.logits(images, "a set", 0)
        assert logits.shape == (network.members, len(IMAGES), 10)
        assert logits.dtype == torch.float32
        (gradient,) = torch.autograd.grad(logits.square().sum(), images)
        assert gradient.isfinite().all()
        assert (gradient.flatten(1) != 0).any(dim=1).all()
        assert not any(parameter.requires_grad for parameter in network.model.parameters())
        assert all(torch.equal(network.model.state_dict()[name], tensor) for name, tensor in before.items())


def test_a_plain_ticket_predicts_what_its_module_does(tmp_path: Path) -> None:
    spec = SPECS["two tickets"]
    for network in networks_of(tmp_path, spec):
        with torch.no_grad():
            expected = random_model(spec, network.index)(IMAGES)
        torch.testing.assert_close(network.logits(IMAGES, "a set", 0), expected.unsqueeze(0))


@pytest.mark.parametrize("kind", ["mimo", "batch ensemble", "tree net"])
def test_every_member_of_a_network_predicts_every_image(tmp_path: Path, kind: str) -> None:
    (network,) = networks_of(tmp_path, SPECS[kind])
    together = network.logits(IMAGES, "a set", 0)
    assert not torch.allclose(together[0], together[1])
    for index, image in enumerate(IMAGES):
        torch.testing.assert_close(together[:, index], network.logits(image[None], "another", 7)[:, 0])


def test_bf16_rounds_as_the_run_did(tmp_path: Path) -> None:
    spec = SPECS["bf16"]
    (network, _) = networks_of(tmp_path, spec)
    model = random_model(spec, 0).to(memory_format=torch.channels_last)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rounded = model(IMAGES.contiguous(memory_format=torch.channels_last)).float()
    with torch.no_grad():
        exact = model(IMAGES)
    logits = network.logits(IMAGES.contiguous(memory_format=torch.channels_last), "a set", 0)[0]
    torch.testing.assert_close(logits, rounded)
    assert not torch.allclose(logits, exact, rtol=1e-5)


@pytest.mark.parametrize("channels_last", [True, False])
def test_weights_and_images_lie_in_memory_as_the_run_had_them(tmp_path: Path, channels_last: bool) -> None:
    spec = edst_spec(execution={"channels_last": channels_last})
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for network in networks_of(tmp_path, spec):
        assert network.model.get_parameter("block1.0.conv2.weight").is_contiguous(memory_format=layout)
    pixels = torch.from_numpy(random_images(2).images).permute(0, 3, 1, 2)
    batch = normaliser(spec, CPU)(pixels)
    assert batch.is_contiguous(memory_format=layout)
    assert torch.equal(batch, normalised(random_images(2)))


def test_what_was_compiled_in_training_is_not_compiled_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compile(*_: object) -> None:
        raise AssertionError("compiled")

    monkeypatch.setattr(torch, "compile", compile)
    (network,) = networks_of(tmp_path, dense_spec(execution={"compile": True, "channels_last": False}))
    assert network.logits(IMAGES, "a set", 0).shape == (1, 6, 10)


def draws(spec: RunSpec, root: Path, *names: str | int, ticket: int = 0) -> torch.Tensor:
    return networks_of(root, spec)[ticket].logits(IMAGES, *names)


def test_drawn_members_depend_on_run_ticket_and_names_alone(tmp_path: Path) -> None:
    spec = edst_spec(model=model_of("mc dropout"))
    first = draws(spec, tmp_path, "a set", 0)
    torch.manual_seed(5)
    torch.rand(3)
    assert torch.equal(first, draws(spec, tmp_path, "a set", 0))
    model = random_model(spec, 0)
    seed = derived_seed(derived_seed(spec.stream, "sampling", "a set", 0, 0), "sample", 1)
    model.draws.reseed(CPU, seed)  # type: ignore[operator, union-attr]
    with torch.no_grad():
        assert torch.equal(first[1], model(IMAGES))
    assert not torch.allclose(first[0], first[1])
    for other in (draws(spec, tmp_path, "a set", 500), draws(spec, tmp_path, "another", 0)):
        assert not torch.allclose(first, other)
    # The same weights, as another ticket and as another run.
    network = networks_of(tmp_path, spec)[0]
    for change in ({"index": 1}, {"stream": spec.stream + 1}):
        changed = type(network)(**{**vars(network), **change})
        assert not torch.allclose(first, changed.logits(IMAGES, "a set", 0))


def test_fewer_samples_are_the_first_ones_and_only_of_what_is_drawn(tmp_path: Path) -> None:
    spec = SPECS["mc dropout"]
    ((all_of_them,), (two,), (many,)) = (networks_of(tmp_path, spec, samples=count) for count in (None, 2, 50))
    assert (all_of_them.members, two.members, many.members) == (3, 2, 3)
    expected = all_of_them.logits(IMAGES, "a set", 0)
    assert torch.equal(two.logits(IMAGES, "a set", 0), expected[:2])
    assert torch.equal(many.logits(IMAGES, "a set", 0), expected)
    (mimo,) = networks_of(tmp_path, SPECS["mimo"], samples=1)
    assert mimo.logits(IMAGES, "a set", 0).shape == (2, 6, 10)


@pytest.mark.parametrize("damage", ["altered", "truncated", "gone"])
def test_a_damaged_ticket_is_named(tmp_path: Path, damage: str) -> None:
    spec = edst_spec()
    folder = finished_run(tmp_path, spec)
    file = folder.path / "tickets" / "1.safetensors"
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content if damage == "altered" else content[:-1])
    with pytest.raises(UserError, match=str(file)):
        load_networks(spec, folder, CPU, deterministic=False)


def test_a_ticket_that_was_never_left_is_not_there(tmp_path: Path) -> None:
    spec = edst_spec()
    folder = finished_run(tmp_path, spec)
    (folder.path / "tickets" / "0.safetensors").unlink()
    folder.finish(**result_facts([ticket(1)]))
    (network,) = load_networks(spec, folder, CPU, deterministic=False)
    assert network.index == 1
    expected = random_model(spec, 1).state_dict()["fc.weight"]
    assert np.array_equal(network.model.state_dict()["fc.weight"], expected)


class TestLoadTicket:
    def test_it_is_the_ticket_with_its_masks_applied(self, tmp_path: Path) -> None:
        spec = SPECS["two tickets"]
        folder = finished_run(tmp_path, spec)
        for index in range(2):
            model = bench.load_ticket(folder.path, index)
            expected = random_model(spec, index).state_dict()
            masks = folder.masks(index)
            assert masks
            for name, tensor in model.state_dict().items():
                mask = torch.from_numpy(masks[name]) if name in masks else torch.ones_like(tensor, dtype=torch.bool)
                assert torch.equal(tensor, torch.where(mask, expected[name], 0)), name
            assert not any(module.training for module in model.modules())
            assert all(parameter.requires_grad for parameter in model.parameters())  # to be trained further
            assert {parameter.device for parameter in model.parameters()} == {CPU}
        assert model(IMAGES).shape == (6, 10)

    def test_a_folder_may_be_named_in_three_ways_and_a_dense_run_has_no_masks(self, tmp_path: Path) -> None:
        spec = dense_spec()
        folder = finished_run(tmp_path, spec)
        expected = random_model(spec, 0).state_dict()
        for run in (folder, folder.path, str(folder.path)):
            found = bench.load_ticket(run).state_dict()
            assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())

    def test_it_leaves_the_switches_and_generators_of_torch_as_they_are(self, tmp_path: Path) -> None:
        folder = finished_run(tmp_path, edst_spec(execution={"precision": "tf32", "channels_last": True}))
        before = torch.random.get_rng_state(), torch.get_float32_matmul_precision()
        bench.load_ticket(folder)
        assert torch.equal(torch.random.get_rng_state(), before[0])
        assert torch.get_float32_matmul_precision() == before[1]

    def test_what_is_no_ticket_is_named(self, tmp_path: Path) -> None:
        folder = finished_run(tmp_path, SPECS["two tickets"])
        with pytest.raises(UserError, match=r"nowhere: no such folder; a run is a folder of a store, such as"):
            bench.load_ticket(tmp_path / "nowhere")
        with pytest.raises(UserError, match=r"result.json: missing, so the run is not done"):
            bench.load_ticket(tmp_path)
        with pytest.raises(UserError, match=r"found ticket 2; the run left 0, 1"):
            bench.load_ticket(folder, 2)
        file = folder.tensor_file("tickets", 0)
        file.write_bytes(file.read_bytes()[:-1] + b"x")
        with pytest.raises(UserError, match=r"0\.safetensors: its SHA-256 is not the one"):
            bench.load_ticket(folder)
        spec = folder.path / "spec.yaml"
        spec.write_text(spec.read_text().replace("seed: 18", "seed: 19"))
        with pytest.raises(UserError, match=r"spec\.yaml: gone, truncated or altered"):
            bench.load_ticket(folder, 1)

    def test_a_network_that_is_not_here_is_named(self, tmp_path: Path) -> None:
        folder = finished_run(tmp_path, edst_spec(model=ModelSpec(name="tests.models.networks:plain")))
        spec = folder.path / "spec.yaml"
        spec.write_text(spec.read_text().replace("networks:plain", "networks:planes"))
        folder.record_again("spec.yaml")
        with pytest.raises(UserError, match=r"its network cannot be built: tests\.models\.networks:planes"):
            bench.load_ticket(folder)


def test_importing_bench_and_analysis_is_cheap() -> None:
    heavy = "{'torch', 'pandas', 'matplotlib', 'numpy'}"
    program = f"import sys, bench, analysis; sys.exit(bool({heavy} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", program], check=True)
