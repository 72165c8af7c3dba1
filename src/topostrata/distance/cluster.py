"""The same tiles on a Dask cluster (extra ``dask``): what is sent, how much of it, and what comes back.

A network is sent once, as packed bytes, as a task of its own that the shares of tiles depend on: Dask carries the
bytes between workers, and makes them again where a worker was lost. A share is sent as digests and pairs of numbers,
and comes back as floats. Only plain values go over the wire, and one function, by value: so a machine that has another
version, or none, can say so.
"""

from __future__ import annotations

import asyncio
import json
import struct
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from topostrata import __version__, codec
from topostrata.distance import jobs
from topostrata.distance.alignments import ALIGNMENTS, definition_of, has_numba
from topostrata.distance.comparison import Ready
from topostrata.distance.jobs import (
    Compute,
    Floats,
    Networks,
    PairError,
    ReadyNetworks,
    Share,
    Tile,
    Ways,
    distances_of,
)
from topostrata.errors import (
    Cancelled,
    ClusterError,
    CorruptError,
    InvalidInputError,
    LimitError,
    MissingExtraError,
    NotComparableError,
    TopostrataError,
    install_command,
)
from topostrata.topology import Layer, Space, Topology

if TYPE_CHECKING:
    from distributed import Client, Future

_CONNECT_S = 10.0  # for the scheduler to answer
_PATIENCE_S = 120.0  # for the first worker, and for another where all have gone
_LOOK_S = 5.0  # between two looks at how many workers there are
_TICK_S = 0.2  # between two looks at ``cancel``
_SENT_BYTES = 256 * 2**20  # packed networks that the cluster holds for us
_WORTH = 3_000_000  # connections times pairs of a share: about a second's work

# What a worker says of a share: its floats as bytes; the pair that has no distance, and why; or why it cannot compute.
_LAYERS, _PAIR, _REFUSED = "layers", "pair", "refused"
_ERRORS = {error.code: error for error in (NotComparableError, LimitError, CorruptError)}


@contextmanager
def cluster(address: str, networks: Networks, ways: Ways, cancel: threading.Event | None) -> Iterator[Compute]:
    """What computes shares on the workers of the scheduler at ``address``.

    Raises ``ClusterError`` where it does not answer, ``MissingExtraError`` where Dask is not installed.
    """
    client = _connect(address)
    try:
        yield _Work(client, address, networks, ways, cancel).compute
    finally:
        client.close(timeout=_CONNECT_S)


def _connect(address: str) -> Client:
    need_dask()
    from distributed import Client  # noqa: PLC0415 - behind an extra, and slow to import
    from distributed.comm import get_address_host_port  # noqa: PLC0415

    try:
        get_address_host_port(address)
    except ValueError as error:
        raise InvalidInputError(
            f"scheduler: expected the address of a Dask scheduler such as tcp://host:8786, found {address!r}"
        ) from error
    try:
        # In a thread of its own: the caller may be a notebook, in which an event loop runs already.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, _check_answers(address)).result()
        return Client(address, timeout=_CONNECT_S, set_as_default=False)
    except Exception as error:  # whatever another kind of server makes of it
        reason = "" if isinstance(error, TimeoutError) else f": {type(error).__name__}: {error}"
        raise ClusterError(
            f"expected a Dask scheduler at {address}, found none that answers within {_CONNECT_S:g} s{reason}",
            hint="`dask scheduler` starts one and prints its address",
        ) from error


async def _check_answers(address: str) -> None:
    """See that a scheduler answers. Dask's client waits for ever where something else listens, and says nothing."""
    from distributed.comm import connect  # noqa: PLC0415
    from distributed.security import Security  # noqa: PLC0415

    arguments = Security().get_connection_args("client")
    comm = await asyncio.wait_for(connect(address, timeout=_CONNECT_S, **arguments), _CONNECT_S)
    await comm.close()


def need_dask() -> None:
    """Refuse a cluster where Dask is not installed."""
    try:
        import distributed  # noqa: F401, PLC0415 - behind an extra
    except ImportError as error:
        raise MissingExtraError("a Dask cluster", "dask") from error


class _Work:
    """The client's side of one job."""

    def __init__(
        self, client: Client, address: str, networks: Networks, ways: Ways, cancel: threading.Event | None
    ) -> None:
        self._client, self._address = client, address
        self._networks, self._ways, self._cancel = networks, ways, cancel
        self._name = f"topostrata-{uuid.uuid4().hex}"
        self._count = 0
        self._task = _task()
        self._sent: OrderedDict[str, tuple[Future, int]] = OrderedDict()
        self._sent_bytes = 0
        self._threads = 0
        self._looked = self._seen = -float("inf")

    def compute(self, tiles: Iterator[Tile]) -> Iterator[tuple[Share, Floats]]:
        """The distances of the shares of the tiles, as workers are done with them; few are under way at once."""
        shares = self._shares(tiles)
        flying: dict[str, tuple[Share, Future]] = {}
        done: SimpleQueue[Future] = SimpleQueue()
        self._seen = time.monotonic()
        while True:
            self._look()
            while len(flying) < 2 * self._threads + 2 and (share := next(shares, None)) is not None:
                future = self._send(share)
                flying[future.key] = share, future
                future.add_done_callback(done.put)
            if not flying:
                return
            share, future = flying.pop(self._next(done).key)
            yield share, self._layers(share, future)

    def _shares(self, tiles: Iterator[Tile]) -> Iterator[Share]:
        side = 0
        for tile in tiles:
            side = side or _side(self._networks.topology(tile.rows[0]).nnz)
            yield from tile.shares(side)

    def _send(self, share: Share) -> Future:
        places, numbers = np.unique(share.pairs, return_inverse=True)
        needed = [self._network(at) for at in places.tolist()]
        return self._client.submit(
            self._task,
            _version(),
            tuple(self._ways),
            [digest for digest, _ in needed],
            numbers.astype("<u2").tobytes(),
            [future for _, future in needed],
            key=self._key("share"),
            pure=False,
        )

    def _network(self, at: int) -> tuple[str, Future]:
        """A network of the job on the cluster, by its digest; sent where it is not there, or not there any more."""
        digest = self._networks.digest(at)
        if digest in self._sent:
            self._sent.move_to_end(digest)
            return digest, self._sent[digest][0]
        packed = pack(self._networks.topology(at))
        # A task, not data that is scattered: what a lost worker held is made again.
        future = self._client.submit(bytes, packed, key=self._key("network"), pure=False)
        self._sent[digest] = future, len(packed)
        self._sent_bytes += len(packed)
        while self._sent_bytes > _SENT_BYTES and len(self._sent) > 1:
            self._sent_bytes -= self._sent.popitem(last=False)[1][1]
        return digest, future

    def _key(self, what: str) -> str:
        self._count += 1
        return f"{self._name}-{what}-{self._count}"

    def _next(self, done: SimpleQueue[Future]) -> Future:
        while True:
            try:
                return done.get(timeout=_TICK_S)
            except Empty:
                self._check()

    def _layers(self, share: Share, future: Future) -> Floats:
        while True:
            try:
                kind, *details = future.result(timeout=_TICK_S)
            except TimeoutError as error:
                if future.status != "error":  # its worker was lost after it was done: another one is at it
                    self._check()
                    continue
                raise self._failed(future.exception() or error) from error
            except CancelledError as error:
                raise self._lost() from error
            except Exception as error:
                raise self._failed(error) from error
            else:
                break
        if kind == _REFUSED:
            message, hint = details
            raise ClusterError(message, hint=hint)
        if kind == _PAIR:
            at, code, message, hint = details
            i, j = share.pairs[at].tolist()
            raise self._networks.named(PairError(i, j, _ERRORS.get(code, TopostrataError)(message, hint=hint)))
        return np.frombuffer(details[0], dtype="<f8").reshape(len(share.pairs), -1)

    def _check(self) -> None:
        if self._cancel is not None and self._cancel.is_set():
            raise Cancelled
        self._look()

    def _look(self) -> None:
        """See how many threads the cluster has, now and then; an error where it has none for long."""
        now = time.monotonic()
        if now - self._looked < _LOOK_S:
            return
        if self._client.status != "running":
            raise self._lost()
        try:
            self._threads = sum(self._client.nthreads().values())
        except Exception as error:
            raise self._lost() from error
        self._looked = now
        if self._threads:
            self._seen = now
        elif now - self._seen > _PATIENCE_S:
            raise ClusterError(
                f"expected workers at the Dask scheduler {self._address}, found none for {_PATIENCE_S:g} s",
                hint=f"`dask worker {self._address}` starts one; what is finished stays in the archive",
            )

    def _failed(self, error: BaseException) -> ClusterError:
        return ClusterError(
            f"the Dask workers of {self._address} failed at a part of the distances: {type(error).__name__}: {error}",
            hint="their logs say more; what is finished stays in the archive",
        )

    def _lost(self) -> ClusterError:
        return ClusterError(
            f"the Dask scheduler at {self._address} went away, or dropped the work",
            hint="start it again; what is finished stays in the archive",
        )


def _side(connections: int) -> int:
    """How many networks by how many a share holds, of so many connections each: all of a tile where they are small."""
    side = jobs.TILE
    while side > 2 and side * side * connections > _WORTH:
        side //= 2
    return side


def _version() -> str:
    """What client and workers must have in common: the version of the package, and those of the values."""
    values = ", ".join(f"{definition.name} {definition.version}" for definition in ALIGNMENTS.values())
    return f"{__version__} (values: {values})"


def _task() -> Callable[..., tuple[Any, ...]]:
    """What is sent to the workers. It stands in no module by its name, so it is sent as it is."""

    def distances(version: str, *rest: Any) -> tuple[Any, ...]:
        try:
            from topostrata.distance.cluster import work  # noqa: PLC0415 - on the worker
        except ImportError as error:
            import socket  # noqa: PLC0415

            message = f"the Dask worker on {socket.gethostname()}: expected topostrata {version}, found {error}"
            return "refused", message, "pip install '.[distance,dask]' in a checkout of Topostrata, the same everywhere"
        return work(version, *rest)

    return distances


# From here on: the worker's side.

_ready = ReadyNetworks()


def work(
    version: str, ways: tuple[Any, bool], digests: Sequence[str], numbers: bytes, packed: Sequence[bytes]
) -> tuple[Any, ...]:
    """The distances of pairs of packed networks, as ``_LAYERS``, ``_PAIR`` or ``_REFUSED`` and what belongs to it."""
    chosen = Ways(*ways)
    if version != _version():
        return (
            _REFUSED,
            f"{_here()}: expected topostrata {version}, found {_version()}",
            "install the same version everywhere",
        )
    if definition_of(chosen.alignment).needs_numba and not has_numba():
        return (
            _REFUSED,
            f"{_here()}: expected numba for the {chosen.alignment} alignment, found none",
            f"{install_command('distance', 'dask')}, where the workers are",
        )
    pairs = np.frombuffer(numbers, dtype="<u2").astype(np.int64).reshape(-1, 2)

    def get(at: int) -> Ready:
        return _ready.get((digests[at], chosen), lambda: unpack(packed[at], digests[at]), chosen)

    try:
        return _LAYERS, distances_of(pairs, get, chosen).astype("<f8").tobytes()
    except PairError as failed:
        at = int(np.flatnonzero((pairs == (failed.i, failed.j)).all(axis=1))[0])
        return _PAIR, at, str(failed.error.code), failed.error.message, failed.error.hint


def _here() -> str:
    from distributed import get_worker  # noqa: PLC0415 - behind an extra

    return f"the Dask worker {get_worker().address}"


_COUNT = struct.Struct("<Q")


def pack(topology: Topology) -> bytes:
    """A topology as bytes: its spaces and layers as JSON, then its masks, packed; each after its size."""
    place = {space.name: k for k, space in enumerate(topology.spaces)}
    head = {
        "spaces": [[space.name, space.size, space.labelled] for space in topology.spaces],
        "layers": [[layer.name, place[layer.source.name], place[layer.target.name]] for layer in topology.layers],
    }
    parts = [json.dumps(head).encode(), *(codec.encode(layer.mask).data for layer in topology.layers)]
    return b"".join(piece for part in parts for piece in (_COUNT.pack(len(part)), part))


def unpack(data: bytes, digest: str) -> Topology:
    """The topology that was packed, checked against its digest."""
    parts = []
    at = 0
    while at < len(data):
        (size,) = _COUNT.unpack_from(data, at)
        at += _COUNT.size + size
        parts.append(data[at - size : at])
    head = json.loads(parts[0])
    spaces = [Space(name, size, labelled=labelled) for name, size, labelled in head["spaces"]]
    layers = [
        Layer(name, spaces[source], spaces[target], codec.decode(mask))
        for (name, source, target), mask in zip(head["layers"], parts[1:], strict=True)
    ]
    topology = Topology(tuple(layers))
    if topology.digest != digest:
        raise CorruptError(f"a network on its way to a worker: expected {digest[:12]}, found {topology.digest[:12]}")
    return topology
