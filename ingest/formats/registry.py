"""The file formats, in one table: how each is recognised, who writes it, what it holds and what is done with it.

The help of ``push``, the table in docs/formats.md and the hint of every error about an unknown file are made from it.
To add a format: a function ``read`` in ``openers`` (or a module of its own) and a row here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from topostrata.errors import InvalidInputError
from topostrata.ingest.formats.limits import Limits

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from topostrata.ingest.formats.array_file import ArrayFile

_HEAD = 512


@dataclass(frozen=True, slots=True)
class Format:
    """One format. ``reader`` is ``module:function`` of what opens a file; ``extra`` the extra that it needs.

    A file is recognised by its suffix, else by its first bytes.
    """

    name: str
    suffixes: tuple[str, ...]
    begins: tuple[bytes, ...]
    writers: str
    holds: str
    axes: str
    reader: str
    extra: str | None = None

    @contextmanager
    def open(self, path: Path, limits: Limits) -> Iterator[ArrayFile]:
        """The arrays of a file, open for as long as the context lasts; masks in bits are unpacked (``packed``)."""
        # The help of `push` needs no NumPy.
        from topostrata.ingest.formats.again import or_again, reading_again  # noqa: PLC0415
        from topostrata.ingest.formats.packed import unpacked  # noqa: PLC0415

        module, function = self.reader.split(":")
        opened: AbstractContextManager[ArrayFile] = getattr(import_module(module), function)(path, limits)
        with ExitStack() as stack:
            with or_again(path, self.writers):
                file = stack.enter_context(opened)
            yield unpacked(reading_again(file, path, self.writers))


# The head of a map of msgpack with up to 15 keys, then that of its first key, a text of up to 31 bytes.
_MAPS = tuple(bytes([0x80 + keys, 0xA0 + length]) for keys in range(1, 16) for length in range(1, 32))
_OPENERS = "topostrata.ingest.formats.openers"
_NUMPY = b"\x93NUMPY"
_CHECKPOINT = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle")

FORMATS: tuple[Format, ...] = (
    Format(
        "NumPy archive",
        (".npz",),
        (),
        "numpy.savez, scipy.sparse.save_npz, topostrata export",
        "a network, one array or SciPy matrix per layer; one SciPy matrix; a snapshot of Topostrata",
        "rows are sources, unless only the other order chains",
        f"{_OPENERS}:read_npz",
    ),
    Format(
        "safetensors",
        (".safetensors",),
        (),
        "safetensors, Hugging Face, topostrata export",
        "a state dict or masks; one shard of several (all are read, by their index); a snapshot of Topostrata",
        "rows are targets, as torch has them; in-out where names end in `kernel`",
        f"{_OPENERS}:read_safetensors",
    ),
    Format(
        "index of shards",
        (".index.json",),
        (),
        "Hugging Face save_pretrained",
        "a state dict in several safetensors files or checkpoints",
        "as its shards",
        f"{_OPENERS}:read_shards",
    ),
    Format(
        "PyTorch checkpoint",
        _CHECKPOINT,
        (b"\x80",),
        "torch.save, torch.jit.save, Lightning, pickle.dump",
        "a state dict, masks, a whole model or a training state; read without torch, nothing is unpickled",
        "rows are targets; sources, where all are arrays of NumPy or SciPy in a plain pickle",
        f"{_OPENERS}:read_checkpoint",
    ),
    Format(
        "NumPy array",
        (".npy",),
        (_NUMPY,),
        "numpy.save",
        "one array, or a pickled dictionary of arrays; nothing is unpickled",
        "rows are sources",
        f"{_OPENERS}:read_npy",
    ),
    Format(
        "Matrix Market",
        (".mtx",),
        (b"%%MatrixMarket",),
        "scipy.io.mmwrite, MATLAB, Julia",
        "one matrix, sparse or dense",
        "rows are sources",
        f"{_OPENERS}:read_matrix_market",
    ),
    Format(
        "MATLAB file",
        (".mat",),
        (b"MATLAB 5.0",),
        "MATLAB, scipy.io.savemat",
        "matrices by name, sparse or dense (versions 5 to 7.2)",
        "rows are sources",
        f"{_OPENERS}:read_mat",
    ),
    Format(
        "Keras model",
        (".keras",),
        (),
        "Keras 3, model.save",
        "configuration and weights; the configuration gives order and names of the layers, and is not executed",
        "rows are sources, kernels hwio; transposed and depthwise ones as Keras stores them",
        "topostrata.ingest.formats.keras_file:read_keras",
        "keras",
    ),
    Format(
        "HDF5 file",
        (".weights.h5", ".h5", ".hdf5"),
        (b"\x89HDF\r\n\x1a\n",),
        "Keras 3, model.save_weights; Keras 1 and 2, model.save; h5py",
        "weights of a Keras model, by the names of its layers; else arrays by path",
        "as a Keras model; rows are sources, where another wrote it",
        "topostrata.ingest.formats.keras_file:read_hdf5",
        "keras",
    ),
    Format(
        "Flax msgpack",
        (".msgpack", ".flax"),
        _MAPS,
        "flax.serialization.to_bytes, Hugging Face flax_model.msgpack",
        "a tree of parameters, or a training state; masks beside it (JaxPruner's too, bit-packed or not)",
        "rows are sources, kernels hwio",
        "topostrata.ingest.formats.flax_file:read_flax",
        "flax",
    ),
    Format(
        "Orbax checkpoint",
        (),
        (),
        "orbax.checkpoint: StandardCheckpointer, PyTreeCheckpointer, CheckpointManager",
        "a directory with a tree of arrays (`_METADATA`), or a step of a manager that holds one (`default/`)",
        "as Flax",
        "topostrata.ingest.formats.orbax_directory:read_orbax",
        "orbax",
    ),
)
ORBAX = FORMATS[-1]  # its files are directories

DIRECTORIES = (
    "a directory with one layer per file (epoch_<N>/weight_l<k>.npz), a directory of steps (step_<N>/, "
    "checkpoint-<N>/, or files such as epoch_010.npz), a directory with an index of shards, a checkpoint of Orbax"
)


def format_of(path: Path, formats: Sequence[Format] = FORMATS) -> Format:
    """The format of a file, by the end of its name, else by how it begins; raises ``InvalidInputError``.

    A zip archive under a strange name is a NumPy archive or a checkpoint: the names of its members tell.
    """
    name = path.name.lower()
    for known in formats:
        if name.endswith(known.suffixes):
            return known
    head = _head(path)
    for known in formats:
        if known.begins and head.startswith(known.begins):
            return known
    if head.startswith(b"PK"):
        return formats[3 if b"/data.pkl" in head else 7 if b"metadata.json" in head else 0]
    raise InvalidInputError(f"{path}: expected {expected(formats)}, found another", hint=hint(formats))


def suffixes(formats: Sequence[Format] = FORMATS) -> tuple[str, ...]:
    """What the names of readable files end in."""
    return tuple(suffix for known in formats for suffix in known.suffixes)


def expected(formats: Sequence[Format] = FORMATS) -> str:
    """``a .npz, .safetensors, ... or .mat file``: what a file may be called."""
    *most, last = suffixes(formats)
    return f"a {', '.join(most)} or {last} file"


def hint(formats: Sequence[Format] = FORMATS) -> str:
    """What is known, for an error about a file or directory that is none of it."""
    names = [f"{known.name} ({', '.join(known.suffixes)})" for known in formats if known.suffixes]
    return f"known are {DIRECTORIES}, and files: {', '.join(names)}; docs/formats.md shows them"


def help_text(formats: Sequence[Format] = FORMATS) -> str:
    """What a snapshot can be read from, for the help of a command's argument."""
    return f"A directory of epochs or steps, one epoch, or a file: {', '.join(suffixes(formats))}."


def table(formats: Sequence[Format] = FORMATS) -> str:
    """The table of docs/formats.md."""
    rows = ["| file | who writes it | what it holds | order of axes | needs |", "| --- | --- | --- | --- | --- |"]
    for known in formats:
        endings = " ".join(f"`{suffix}`" for suffix in known.suffixes) or "(a directory)"
        needs = f"the extra `[{known.extra}]`" if known.extra else "nothing more"
        rows.append(f"| {known.name} {endings} | {known.writers} | {known.holds} | {known.axes} | {needs} |")
    return "\n".join(rows) + "\n"


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_HEAD)
    except OSError as error:
        raise InvalidInputError(f"{path}: expected a readable file, found: {error.strerror}") from error
