"""Shards on Ray (extra `ray`): actors do the work; what a lost one had not delivered, another does again.

The workspace, its manifest and its journal stay with the process that runs the stages. Actors start with the first work and do all that
follow; each opens a work once. A work that reads files (a model's folder, the workspace) finds them at the same path on every node: a
shared file system.
"""

from __future__ import annotations

import os
import platform
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from zelo import __version__
from zelo.errors import ClusterError, MissingExtraError, ZeloError
from zelo.shards import In, Out, Work

RETRIES = 3
"""How often a shard is done again, its actor having been lost and started again, before the run stops."""
AHEAD = 4
"""Shards per worker that are under way or whose results wait for their turn: what bounds the memory."""
QUEUED = 2
"""Shards that an actor is given at once, so that it never waits for the next one."""


@dataclass(frozen=True)
class _Refused:
    """A ZeloError that travels: made again from its parts, for exceptions with keyword arguments cannot be pickled."""

    kind: type[ZeloError]
    what: str
    where: str
    remedy: str


class _Worker:
    """What runs in an actor."""

    def __init__(self) -> None:
        # What is open is lost with the process: every call brings the work, so that an actor that came back can open it again.
        self._number = -1
        self._do: Callable[[Any], Any] | None = None

    def version(self) -> tuple[str, str]:
        """Return zelo's version and Python's."""
        return __version__, platform.python_version()

    def do(self, number: int, work: Work[Any, Any], shard: Any) -> Any:
        """Do a shard of the work of a number; an error on purpose comes back as a value, so that it is not taken for a fault of Ray."""
        try:
            do = self._do if number == self._number else None
            if do is None:
                self._do = None  # what the last work held goes first: a model, for example
                do = self._do = work.open()
                self._number = number
            return do(shard)
        except ZeloError as error:
            return _Refused(type(error), error.what, error.where, error.remedy)


class RayWorkers:
    """An executor on Ray, to be used as a context: `with RayWorkers("ray", 8) as executor`."""

    elsewhere = True

    def __init__(self, address: str = "ray", workers: int = 0, *, gpus: float = 0.0) -> None:
        """Say where.

        Args:
            address: "ray" starts Ray on this machine, or joins what RAY_ADDRESS names; "ray://HOST:PORT" is a client of a cluster.
            workers: how many actors; 0 = one per GPU, or without `gpus` one per CPU.
            gpus: of each actor; may be a fraction.

        Raises:
            ClusterError: an address of another kind.
        """
        if address != "ray" and not address.startswith("ray://"):
            raise ClusterError(f"{address!r} is no cluster", where="--on", remedy="write ray, or ray://HOST:PORT")
        self._address, self._wanted, self._gpus, self._ours = address, workers, gpus, False
        self._ray: Any = None
        self._started: list[Any] = []
        self._works = 0
        self.workers = workers

    def __enter__(self) -> RayWorkers:
        """Connect.

        Raises:
            MissingExtraError: Ray is not installed.
            ClusterError: nobody answers, or the cluster lacks what is asked for.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
        os.environ.setdefault("RAY_worker_niceness", "0")  # a Ray that is started here is there for this work only
        try:
            import ray as imported
        except ImportError as error:
            raise MissingExtraError("Ray is not installed", where="--on", remedy="pip install 'zelo[ray]'") from error
        ray: Any = imported
        self._ray = ray
        self._ours = not ray.is_initialized()
        try:
            if self._ours:
                with warnings.catch_warnings(action="ignore"):  # of an address where nobody answers: the error says it
                    ray.init(**self._options())
            found = ray.cluster_resources()
        except Exception as error:  # Ray raises plain ones, for a node that takes too long to start, for example
            ray.shutdown()
            remedy = "start it with `ray start --head`; see that the port is reachable, and RAY_AUTH_MODE and token the same on both sides"
            remedy = "try again" if self._address == "ray" else remedy
            raise ClusterError(f"no answer ({error})", where=self._address, remedy=remedy) from error
        self.workers = self._wanted or max(1, int(found.get("GPU", 0) / self._gpus if self._gpus else found.get("CPU", 1)))
        if self._gpus * self.workers > found.get("GPU", 0):
            self.__exit__(None, None, None)
            what = f"{self.workers} workers of {self._gpus:g} GPUs, and the cluster has {found.get('GPU', 0):g}"
            raise ClusterError(what, where=self._address, remedy="ask for fewer --workers or --worker-gpus")
        if self.workers > found.get("CPU", 0):  # they would wait for ever
            self.__exit__(None, None, None)
            what = f"{self.workers} workers of one CPU, and the cluster has {found.get('CPU', 0):g}"
            raise ClusterError(what, where=self._address, remedy="ask for fewer --workers")
        return self

    def _options(self) -> dict[str, Any]:
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self._address != "ray":
            return {"address": self._address, **common}
        if os.environ.get("RAY_ADDRESS"):
            return common
        cpus = max(self._wanted, os.cpu_count() or 1)  # actors of ours must fit, however few cores there are
        return {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": 512 << 20, **common}

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Disconnect; the workers end, and a Ray that was started here."""
        if self._ray is not None:
            self.release()
            if self._ours:
                self._ray.shutdown()

    def release(self) -> None:
        """Let the workers go, with what they are doing; the next work starts others."""
        for actor in self._started:
            self._ray.kill(actor)
        self._started = []

    def map(self, work: Work[In, Out], shards: Iterable[In]) -> Iterator[Out]:
        """See `shards.Executor`."""
        complete = False
        try:
            yield from self._results(self._actors(), self._ray.put(work), iter(shards))
            complete = True
        finally:
            if not complete:  # shards may be under way that nobody waits for
                self.release()

    def _actors(self) -> list[Any]:
        """Start the workers, unless they are there."""
        self._works += 1
        if self._started:
            return self._started
        options: dict[str, Any] = {"num_cpus": 1, "num_gpus": self._gpus, "max_restarts": -1, "max_task_retries": RETRIES}
        made = self._ray.remote(_Worker).options(**options)
        self._started = actors = [made.remote() for _ in range(self.workers)]
        here = (__version__, platform.python_version())
        for version in self._got(self._ray, [actor.version.remote() for actor in actors]):
            if version != here:
                what = f"a worker has zelo {version[0]} on Python {version[1]}, this process {here[0]} on {here[1]}"
                raise ClusterError(what, where=self._address, remedy="install the same on all nodes")
        return actors

    def _results(self, actors: Sequence[Any], work: Any, shards: Iterator[Any]) -> Iterator[Any]:
        ray: Any = self._ray
        under_way: dict[Any, tuple[int, int]] = {}  # reference -> (number of the shard, place of the actor)
        results: dict[int, Any] = {}
        load, sent, due, more = Counter[int](), 0, 0, True
        while True:
            while more and sent - due < AHEAD * len(actors):
                place = min(range(len(actors)), key=load.__getitem__)
                if load[place] >= QUEUED:
                    break
                try:
                    shard = next(shards)
                except StopIteration:
                    more = False
                    break
                under_way[actors[place].do.remote(self._works, work, shard)] = (sent, place)
                load[place], sent = load[place] + 1, sent + 1
            if due in results:
                yield results.pop(due)
                due += 1
            elif under_way:
                ready, _ = ray.wait(list(under_way), num_returns=1)
                for reference in ready:
                    number, place = under_way.pop(reference)
                    load[place] -= 1
                    (results[number],) = self._got(ray, [reference])
            else:
                return

    def _got(self, ray: Any, references: list[Any]) -> list[Any]:
        try:
            found = ray.get(references)
        except ray.exceptions.RayTaskError as error:  # a fault of ours, or of a library: as it would be without Ray
            raise error.as_instanceof_cause() from error
        except ray.exceptions.RayError as error:
            what = f"workers were lost {RETRIES + 1} times ({' '.join(str(error).split())[:200]})"
            raise ClusterError(what, where=self._address, remedy="give them more memory; the same command goes on") from error
        for value in found:
            if isinstance(value, _Refused):
                raise value.kind(value.what, where=value.where, remedy=value.remedy)
        return list(found)
