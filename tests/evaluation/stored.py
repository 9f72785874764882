"""Finished runs without training: tickets of random weights in a store, as the executor leaves them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.data.catalog import DATASETS
from bench.data.dataset import LabelledImages
from bench.evaluation.networks import Network, load_networks
from bench.models.build import build_model
from bench.sparsity.maskable import maskable_weights
from bench.spec.run import MASK_PREFIX, BatchEnsemble, McDropout, Mimo, ModelSpec, MultiMemberSpec, RunSpec, TreeNet
from bench.store.run_folder import RunFolder
from bench.store.store import Store
from tests.store.runs import result_facts, ticket
from tests.training.runs import CPU, WRN_10_1, dense_spec, edst_spec

FACTS = DATASETS["digits"]
MULTI_MEMBER: dict[str, MultiMemberSpec] = {
    "mc dropout": McDropout(rate=0.2, samples=3),
    "mimo": Mimo(members=2),
    "batch ensemble": BatchEnsemble(members=2),
    "tree net": TreeNet(members=2, head_blocks=1),
}


def model_of(kind: str) -> ModelSpec:
    """Return a WRN-10-1 of several members."""
    return WRN_10_1.model_copy(update={"ensemble": MULTI_MEMBER[kind]})


SPECS = {
    "two tickets": edst_spec(),
    "channels last": edst_spec(execution={"precision": "fp32", "channels_last": True}),
    "bf16": edst_spec(execution={"precision": "bf16", "channels_last": True}),
    **{kind: dense_spec(model=model_of(kind)) for kind in MULTI_MEMBER},
}


def random_model(spec: RunSpec, ticket: int) -> nn.Module:
    """Return the network of a ticket: random weights, and statistics of batch norm that say something."""
    model = build_model(spec.model, FACTS.classes, spec.seed + 1000 * (ticket + 1))
    generator = torch.Generator().manual_seed(ticket)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.running_mean, -0.2), (module.running_var, 0.5), (module.weight.data, 0.5)):
                assert tensor is not None
                tensor.uniform_(low, low + 0.5, generator=generator)
    return model.eval()


def finished_run(root: Path, spec: RunSpec) -> RunFolder:
    """Write the folder of a run that is done, with all the tickets it is to leave."""
    folder = Store(root).run(spec.run_id)
    folder.write_spec(spec)
    folder.write_provenance(())
    folder.write_history([])
    for index in range(spec.tickets):
        model = random_model(spec, index)
        tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        if spec.topology is not None:
            tensors |= {MASK_PREFIX + name: w.detach().numpy() > 0 for name, w in maskable_weights(model).items()}
        folder.write_ticket(index, tensors, {})
    folder.finish(**result_facts([ticket(index) for index in range(spec.tickets)], run=spec.run_id))
    return folder


def networks_of(root: Path, spec: RunSpec, **options: Any) -> list[Network]:
    """Return the networks of a finished run, made unless it is there."""
    folder = Store(root).run(spec.run_id)
    if folder.status() != "done":
        finished_run(root, spec)
    return load_networks(spec, folder, CPU, deterministic=False, **options)


def random_images(count: int, seed: int = 0) -> LabelledImages:
    """Return noise, smooth enough that a network tells the images apart, with random labels."""
    random = np.random.default_rng(seed)
    coarse = random.integers(256, size=(count, 8, 8, 3), dtype=np.uint8)
    return LabelledImages(coarse.repeat(4, axis=1).repeat(4, axis=2), random.integers(10, size=count))


def normalised(images: LabelledImages) -> Tensor:
    """Return what a network of digits reads, by NumPy, float32 [N, 3, H, W]."""
    levels = images.images.astype(np.float32) / np.float32(255)
    scaled = (levels - np.array(FACTS.mean, np.float32)) / np.array(FACTS.std, np.float32)
    return torch.from_numpy(scaled).permute(0, 3, 1, 2)
