"""Sides whose processes are kept from one comparison to the next, so that a framework is imported a few times alone."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from lockstep.errors import LockstepError
from lockstep.exchange.models.records import Model
from lockstep.proof.pair import client, difference

MOST_LOADED = 40  # models that one process has seen before it is ended: what they leave behind is large


class Kept(client.Side):
    """A side that takes the process of one of the same framework, precision and place, and leaves it to the next."""

    free: dict[tuple[str, str], list[client.Side]] = {}  # noqa: RUF012  # of this process, for good
    root: Path

    def __init__(self, asked: client.Named, folder: Path, title: str) -> None:
        self.key = (asked.framework, folder.name)
        waiting = self.free.setdefault(self.key, [])
        if waiting:
            self.__dict__ |= {**waiting.pop().__dict__, "asked": asked, "title": title}
            return
        super().__init__(asked, self.root / "-".join([*self.key, str(next(NUMBERS))]), title)
        self.n_loaded = 0

    def __exit__(self, *exception: object) -> None:
        failed = exception and exception[0] is not None and not issubclass(exception[0], LockstepError)
        if failed or self.worker.process.poll() is not None or self.n_loaded >= MOST_LOADED:
            super().__exit__(*exception)
        else:
            for file in self.folder.glob("*.safetensors"):
                file.unlink()
            self.free[self.key].append(self)

    def load(self, dtype: str) -> Model:
        self.n_loaded += 1
        return super().load(dtype)


NUMBERS = itertools.count()


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Inside, comparisons share processes."""
    with tempfile.TemporaryDirectory(prefix="lockstep-cases-") as root, mock.patch.object(difference, "Side", Kept):
        Kept.root = Path(root)
        try:
            yield
        finally:
            for side in itertools.chain(*Kept.free.values()):
                client.Side.__exit__(side)
            Kept.free.clear()
