"""Into MLflow's own store, a file of SQLite (or whatever database a path's address names), without a server."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from runs import Run, assert_same, epochs, measured, once

DIGEST, NAME = "lockstep.digest", "lockstep.run"


class Store:
    """The database, and the experiments in it: one a study."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.client = MlflowClient(f"sqlite:///{file}", f"sqlite:///{file}")
        self.artifacts = file.with_name(f"{file.stem}-artifacts")

    def experiment(self, study: str) -> str:
        """Its number; it is made where there is none."""
        found = self.client.get_experiment_by_name(study)
        if found is not None:
            return str(found.experiment_id)
        return str(self.client.create_experiment(study, (self.artifacts / study).as_uri()))

    def is_there(self, run: Run) -> bool:
        """Whether this run was written before, and from the same files."""
        wanted = f"tags.`{NAME}` = '{run['name']}' and tags.`{DIGEST}` = '{run['digest']}'"
        found = self.client.search_runs([self.experiment(run["study"])], wanted, max_results=1)
        return any(row.info.status == "FINISHED" for row in found)

    def write(self, run: Run, _images: np.ndarray) -> None:
        """Its parameters, an entry an epoch, what came out; removed again where it is not read back."""
        tags = {NAME: run["name"], DIGEST: run["digest"], "mlflow.note.content": run["question"]}
        begun = self.client.create_run(
            self.experiment(run["study"]), int(1000 * run["began"]), tags, run_name=run["name"]
        )
        number = begun.info.run_id
        try:
            metrics = [
                Metric(name, value, int(1000 * time), epoch)
                for epoch, time, numbers in epochs(run)
                for name, value in numbers.items()
            ]
            end = int(1000 * run["ended"])
            metrics += [
                Metric(name, float(value), end, 0)
                for name, value in run["numbers"].items()
                if name not in run["series"]
            ]
            for start in range(0, len(metrics), 500):
                self.client.log_batch(number, metrics[start : start + 500])
            params = [Param(name, str(value)) for name, value in run["parameters"].items()]
            for start in range(0, len(params), 90):
                self.client.log_batch(number, params=params[start : start + 90], tags=[RunTag("lockstep", "1")])
            for name in run["series"]:
                history = sorted(self.client.get_metric_history(number, name), key=lambda metric: metric.step)
                assert_same(name, [metric.value for metric in history], measured(run, name))
            self.client.set_terminated(number, "FINISHED", end)
        except BaseException:
            self.client.delete_run(number)
            raise


def main(place: Path, target: Path) -> None:
    """Every run."""
    kept = Store(target)
    once(place, kept.is_there, kept.write)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
