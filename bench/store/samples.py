"""samples/<data set>/<family>.safetensors: what a test image becomes under each corruption of a family.

A tensor a type, uint8 [1 + severities, H, W, 3], the clean image first; "severities" lists the others. The header holds
the SHA-256 of the tensors; files of earlier versions have none, and are read.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from bench.errors import UserError
from bench.store.files import atomic_path
from bench.store.run_folder import Array
from bench.store.store import Store

SEVERITIES = "severities"
CHECKSUM = "sha256"


def samples_file(store: Store, dataset: str, family: str) -> Path:
    """Return where the samples of a data set and a family are kept."""
    return store.root / "samples" / dataset / f"{family}.safetensors"


def write_samples_file(file: Path, tensors: Mapping[str, Array]) -> None:
    """Write samples with their checksum."""
    from safetensors.numpy import save_file

    with atomic_path(file) as temporary:
        save_file(dict(tensors), temporary, metadata={CHECKSUM: _checksum(tensors)})


def read_samples(store: Store, dataset: str, family: str) -> dict[str, Array] | None:
    """Return the tensors of a file of samples, None if there is none; UserError if it is not what is written there.

    All tensors but the severities are then uint8 [1 + severities, H, W, 3] of one size.
    """
    from safetensors import SafetensorError, safe_open

    path = samples_file(store, dataset, family)
    try:
        if not path.exists():
            return None
        if not path.is_file():  # a pipe would keep its reader for ever
            raise UserError(
                f"{path}: a folder, pipe or device, no file; `bench run` makes samples again once it is gone"
            )
        with safe_open(path, framework="np") as file:
            recorded = (file.metadata() or {}).get(CHECKSUM)
            tensors: dict[str, Array] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: cannot be read ({error}); `bench run` makes it again") from None
    if recorded not in (None, _checksum(tensors)) or not _fit(tensors):
        raise UserError(f"{path}: not the samples that were written; `bench run` makes it again")
    return tensors


def _fit(tensors: Mapping[str, Array]) -> bool:
    """Whether tensors are samples: of a file without a checksum nothing else says so."""
    severities = tensors.get(SEVERITIES)
    images = [tensor for name, tensor in tensors.items() if name != SEVERITIES]
    if severities is None or severities.dtype.kind not in "iu" or severities.ndim != 1 or not images:
        return False
    _, *size = images[0].shape or (0,)
    wanted = (1 + len(severities), *size)
    return (
        len(size) == 3
        and size[-1] == 3
        and 0 not in size
        and all(image.dtype.kind == "u" and image.itemsize == 1 and image.shape == wanted for image in images)
    )


def _checksum(tensors: Mapping[str, Array]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\n".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()
