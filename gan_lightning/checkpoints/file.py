"""Checkpoint files: written completely or not at all, with a checksum, and read without running any code in them."""

import hashlib
import os
import pickletools
import re
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from torch import Tensor

from gan_lightning.errors import InputError, one_line

GLOBALS = re.compile(r"collections OrderedDict|torch \w+Storage|torch Size|torch._utils _rebuild_(tensor_v2|parameter)")
CHECKSUM = b"sha256:"  # a file ends with this and the SHA-256 of all before it, as the comment of the zip archive


class CheckpointIO(TorchCheckpointIO):
    """Writes and reads Lightning's checkpoints by :func:`write` and :func:`read`.

    Args:
        content: Content of the checkpoint to resume from, if it has been read already.
    """

    def __init__(self, content: dict[str, Any] | None = None) -> None:
        self.content = content

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint; see :func:`write`."""
        write(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Return the content of a file, on the CPU."""
        content, self.content = self.content, None
        return content or read(Path(path))


def write(content: Mapping[str, Any], path: Path) -> None:
    """Write a file next to ``path`` and move it there.

    Raises:
        InputError: If it cannot be written, or could not be read again.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.unlink(missing_ok=True)
        with unfinished.open("x+b") as file:  # does not follow a link of that name
            torch.save(content, file)
            append_checksum(file)
            file.flush()
            os.fsync(file.fileno())
        torch.load(unfinished, weights_only=True, mmap=True)
        unfinished.replace(path)
    except UnpicklingError as error:
        found = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))
        kind = found[1] if found else "an object"
        allowed = "tensors, numbers, text, and lists and dicts of them"
        raise InputError(f"checkpoint: a callback's state contains {kind}; must be {allowed}") from error
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError if it cannot write
        reason = getattr(error, "strerror", None) or "is the disk full?"
        raise InputError(f"{path}: could not be written: {reason}") from error
    finally:
        with suppress(OSError):
            unfinished.unlink()


def append_checksum(file: Any) -> None:
    """Append the SHA-256 of a zip archive that is open for reading and writing, as its comment."""
    file.seek(-2, os.SEEK_END)  # the length of the comment, so far 0
    before_comment = file.tell()
    file.seek(0)
    comment = CHECKSUM + sha256(file, before_comment)
    file.seek(before_comment)
    file.write(len(comment).to_bytes(2, "little") + comment)


def sha256(file: Any, size: int) -> bytes:
    """Return the SHA-256 in hexadecimal of the next ``size`` bytes of a file."""
    digest = hashlib.sha256()
    while size > 0 and (block := file.read(min(size, 1 << 20))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest().encode()


def read(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, on the CPU, without unpickling code.

    Raises:
        InputError: If the file is damaged, or not a checkpoint.
    """
    try:
        with path.open("rb") as file:
            check_archive(file, path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except UnpicklingError as error:
        raise foreign_file(path, "it contains code or objects, which are not loaded") from error
    except OSError as error:
        raise InputError(f"checkpoint={path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # a foreign file can break the reader in any way
        raise foreign_file(path, one_line(error)[:80]) from error
    check_tensors(content, 4 * path.stat().st_size, path)  # tied weights count more than once
    return content


def foreign_file(path: Path, reason: str = "") -> InputError:
    """Return the error for a file that is not one of this package's checkpoints."""
    line = f"checkpoint={path}: not a checkpoint written by gan_lightning.train"
    return InputError(f"{line} ({reason})" if reason else line)


def check_archive(file: Any, path: Path) -> None:
    """Raise InputError unless a file is an uncompressed zip archive whose content agrees with its checksums."""
    others = sorted(other.name for other in path.parent.glob("*.ckpt") if other.name != path.name)
    instead = f"use another checkpoint{': ' if others else ''}{', '.join(others)}"
    start = file.read(2)
    if start != b"PK":
        raise foreign_file(path, "another kind of file" if start else "it is empty")
    try:
        with zipfile.ZipFile(file) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):  # could be a zip bomb
                raise foreign_file(path, "compressed")
            for entry in archive.infolist():
                if entry.filename.lower().endswith(".pkl"):  # torch finds data.pkl in any case
                    check_pickle(archive.read(entry), path)
            comment = archive.comment
            intact = bool(comment) or archive.testzip() is None  # files of 0.1.0 have no comment
    except zipfile.BadZipFile as error:
        raise InputError(f"checkpoint={path}: the file is incomplete or damaged; {instead}") from error
    if comment:
        file.seek(0, os.SEEK_END)
        size = file.tell() - len(comment) - 2
        file.seek(0)
        intact = CHECKSUM + sha256(file, size) == comment
    if not intact:
        raise InputError(f"checkpoint={path}: the file is damaged (its checksum does not match); {instead}")


def check_pickle(pickled: bytes, path: Path) -> None:
    """Raise InputError if a pickle needs more than tensors: even what torch permits could allocate any memory."""
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "STACK_GLOBAL" or (opcode.name == "GLOBAL" and not GLOBALS.fullmatch(str(argument))):
            raise foreign_file(path, f"it contains {argument or 'an object'}, which is not loaded")


def check_tensors(content: Any, size: int, path: Path) -> None:
    """Raise InputError unless all tensors in nested dicts and lists are strided and together at most ``size`` bytes.

    A tensor that repeats a small storage could need any amount of memory once it is copied.
    """
    total, stack = 0, [content]
    while stack:
        value = stack.pop()
        stack += value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        if isinstance(value, Tensor):
            if type(value) is not Tensor or value.layout is not torch.strided:
                raise foreign_file(path)
            total += value.numel() * value.element_size()
    if total > size:
        raise InputError(f"checkpoint={path}: its tensors would need {total} bytes, more than the file holds")


def check_content(content: Any, path: Path) -> None:
    """Raise InputError unless a file's content has the parts of a checkpoint, each of its type."""
    try:
        hyper_parameters, step, state = content["hyper_parameters"], content["global_step"], content["state_dict"]
        valid = (
            isinstance(hyper_parameters["config"], dict)
            and type(step) is int
            and step >= 0
            and isinstance(state, dict)
            and all(isinstance(value, Tensor) for value in state.values())
        )
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise foreign_file(path) from error
    if not valid:
        raise foreign_file(path)
