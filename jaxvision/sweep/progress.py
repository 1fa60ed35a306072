"""How far a sweep is, as its folder tells: a table on a terminal, lines elsewhere."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jaxvision.errors import UserError
from jaxvision.report.plan import Plan, PlannedTrial, State, failure_file
from jaxvision.sweep.finished import state_of
from jaxvision.train.folder import read_config, read_metrics
from jaxvision.train.result import duration, read_result

REFRESH_SECONDS = 0.5


class Progress:
    """Shows the trials of a plan while it is entered; `refresh` looks at the folder, at most twice a second.

    chosen: those to be run now. ended: called for each trial that finishes.
    """

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        chosen: Sequence[PlannedTrial],
        console: Console,
        *,
        ended: Callable[[PlannedTrial], None],
    ):
        self._folder, self._plan, self._console, self._ended = folder, plan, console, ended
        self._chosen = {trial.folder for trial in chosen}
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._begun_at, self._looked_at = time.time(), 0.0
        self._states = {trial.folder: state_of(folder, trial) for trial in plan.trials}
        self._messages: dict[str, str] = {}
        self._scores: dict[str, tuple[str, str]] = {}
        self._first_done = self.count("finished")

    def __enter__(self) -> "Progress":
        if self._live is not None:
            self._live.start()
        self.refresh()
        return self

    def __exit__(self, *_: object) -> None:
        self._looked_at = 0.0
        self.refresh()
        if self._live is not None:
            self._live.stop()
        else:
            self._console.print(self.table())

    def count(self, state: State) -> int:
        """How many trials of the plan are so."""
        return sum(each == state for each in self._states.values())

    def refresh(self) -> None:
        """Shows what has changed."""
        if time.monotonic() - self._looked_at < REFRESH_SECONDS:
            return
        self._looked_at = time.monotonic()
        for trial in self._plan.trials:
            before, now = self._states[trial.folder], state_of(self._folder, trial)
            self._states[trial.folder] = now
            message = self._message(trial) if now == "failed" else ""
            changed = now != before or message != self._messages.get(trial.folder, message)
            self._messages[trial.folder] = message
            if changed and self._live is None:
                self._tell(trial, now, message)
            if now == "finished" != before:
                self._ended(trial)
        if self._live is not None:
            self._live.update(self.table(), refresh=True)

    def table(self) -> Group:
        """A heading; a row for each arm, a column for each seed."""
        counts = f"{self.count('finished')} of {len(self._plan.trials)} trials finished"
        counts += f", {self.count('failed')} failed" if self.count("failed") else ""
        scores = " and ".join(sorted({name for trial in self._plan.trials if (name := self._score(trial)[0])}))
        heading = f"{self._plan.name}: {counts}{self._left()}{f'; {scores}' if scores else ''}"
        table = Table()
        table.add_column("arm", overflow="fold")
        for seed in self._plan.seeds:
            table.add_column(f"seed {seed}", justify="right")
        trials = {(trial.arm, trial.seed): trial for trial in self._plan.trials}
        for arm in self._plan.arms:
            table.add_row(arm.name, *(self._cell(trials[arm.name, seed]) for seed in self._plan.seeds))
        return Group(Text(heading), table)

    def _tell(self, trial: PlannedTrial, state: State, message: str) -> None:
        what = {"begun": "trains", "failed": f"failed: {message}", "missing": "is tried again"}.get(state)
        if state == "finished":
            what = f"{' '.join(self._score(trial))} ({self.count('finished')}/{len(self._plan.trials)})"
        self._console.print(f"{trial.arm}, seed {trial.seed}: {what}", markup=False, soft_wrap=True)

    def _cell(self, trial: PlannedTrial) -> str:
        match self._states[trial.folder]:
            case "finished":
                return self._score(trial)[1]
            case "failed":
                return "[red]failed[/]"
            case "begun":
                return f"{'trains' if self._is_running(trial) else 'begun'} {self._epochs(trial)}"
        if trial.folder not in self._chosen:
            return "[dim]not now[/]"
        return "begins" if self._is_running(trial) else "[dim]waits[/]"

    def _score(self, trial: PlannedTrial) -> tuple[str, str]:
        """('test accuracy', '0.9912') of a finished trial, by its own headline metric."""
        if self._states[trial.folder] != "finished":
            return "", ""
        if trial.folder not in self._scores:
            try:
                result = read_result(self._folder / trial.folder)
                part = next(part for part in ("test", "validation", "train") if getattr(result, part) is not None)
                value = getattr(result, part)[result.headline]
            except (UserError, KeyError):
                return "", "damaged"
            self._scores[trial.folder] = f"{part} {result.headline}", f"{value:.4f}"
        return self._scores[trial.folder]

    def _epochs(self, trial: PlannedTrial) -> str:
        run_dir = self._folder / trial.folder
        try:
            done = sum("train/loss" in record for record in read_metrics(run_dir))
            return f"{done}/{sum(phase.epochs for phase in read_config(run_dir).phases)}"
        except (UserError, OSError):  # not that far yet, or damaged: its own attempt will say so
            return ""

    def _message(self, trial: PlannedTrial) -> str:
        try:
            return failure_file(self._folder, trial).read_bytes().decode(errors="replace").partition("\n")[0]
        except OSError:  # tried again just now
            return ""

    def _is_running(self, trial: PlannedTrial) -> bool:
        log = self._folder / "logs" / f"{trial.folder}.log"
        return log.exists() and log.stat().st_mtime >= self._begun_at

    def _left(self) -> str:
        """At the pace of the trials that this session has seen end."""
        done = self.count("finished") - self._first_done
        waiting = sum(self._states[folder] in ("missing", "begun") for folder in self._chosen)
        if not done or not waiting:
            return ""
        return f", about {duration((time.time() - self._begun_at) / done * waiting)} left"
