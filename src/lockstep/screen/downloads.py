"""A bar for what is downloaded."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from lockstep.screen.words import escape


class Download:
    """A bar for what `lockstep.data.fetch` reports: (file, bytes so far, bytes in all or 0). A context manager."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self.progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> Download:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def tell(self, file: str, done: int, whole: int) -> None:
        if file not in self.tasks:
            self.tasks[file] = self.progress.add_task(escape(file), total=whole or None)
        self.progress.update(self.tasks[file], completed=done)
