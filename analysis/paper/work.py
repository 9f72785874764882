"""What was run to get here: devices, hours, sessions, versions, from the provenance of every run of a plan."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from analysis.reading import StoreView
from bench.errors import counted
from bench.store.records import Session

# In a kilowatt-hour.
JOULES = 3.6e6


@dataclass(frozen=True)
class Work:
    """The training behind a report; each tuple holds what occurred, once.

    hours        of all epochs that count, whichever session trained them
    sessions     how often a process began or went on with a run; `unfinished` of them never said that they ended
    device_hours   wall-clock of all sessions, killed and failed ones too, times their processes; None where not known
    energy       in kWh, of GPUs and of processors; None where a machine did not tell
    began, ended   first and last moment of any session, ISO 8601 UTC; empty if there is none
    """

    hours: float = 0.0
    runs: int = 0
    sessions: int = 0
    unfinished: int = 0
    devices: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    commits: tuple[str, ...] = ()
    began: str = ""
    ended: str = ""
    device_hours: float | None = None
    gpu_energy: float | None = None
    processors_energy: float | None = None

    @property
    def spent(self) -> str:
        """Hours and energy, in words."""
        parts = [f"{self.hours:,.2f} hours of training that counts"] if self.sessions else []
        for value, what in (
            (self.device_hours, "device-hours in all sessions, killed and failed ones too"),
            (self.gpu_energy, "kWh of GPUs"),
            (self.processors_energy, "kWh of processors"),
        ):
            parts += [] if value is None else [f"{value:,.2f} {what}"]
        return "; ".join(parts)

    @property
    def attempts(self) -> str:
        """How often runs were begun and gone on with, in words."""
        if not self.sessions:
            return ""
        again = max(self.sessions - self.runs, 0)
        return (
            f"{counted(self.sessions, 'session')} for {counted(self.runs, 'finished run')}; {again} went on with a run "
            f"or began it anew, {self.unfinished} ended without a word"
        )

    @property
    def sentences(self) -> list[str]:
        """What it comes to, in words."""
        if not self.sessions:
            return []
        more = self.sessions - self.runs
        again = f"; {more} of them went on with a run, or began it anew" if more > 0 else ""
        cut = f"; {self.unfinished} ended without a word (killed, or still at work)" if self.unfinished else ""
        return [
            f"{counted(self.runs, 'run')}, {self.hours:,.2f} hours of training in "
            f"{counted(self.sessions, 'session')}{again}{cut}; from {self.began} to {self.ended or 'now'} (UTC).",
            f"On {', '.join(self.devices)}; {', '.join(self.versions)}.",
            f"Code: {', '.join(self.commits)}." if self.commits else "Code: no commit was recorded.",
        ]


def read_work(view: StoreView) -> Work:
    """Return the work behind the finished runs of a plan; what cannot be read is noted as a problem."""
    sessions: list[Session] = []
    seconds, runs = 0.0, 0
    for run in view.plan.runs:
        if run.status == "done":
            with view.noting():
                sessions += view.sessions(run.id)
                seconds += sum(epoch.seconds for epoch in view.history(run.id))
                runs += 1
    ends = [session.ended for session in sessions if session.ended]
    return Work(
        hours=seconds / 3600,
        runs=runs,
        sessions=len(sessions),
        unfinished=sum(session.ended is None for session in sessions),
        devices=_once(_device(session) for session in sessions),
        versions=_once(_versions(session) for session in sessions),
        commits=_once(_commit(session) for session in sessions),
        began=_minute(min((session.started for session in sessions), default="")),
        ended=_minute(max(ends, default="")),
        device_hours=_total(
            None if session.usage is None else session.usage.seconds * session.processes / 3600 for session in sessions
        ),
        gpu_energy=_energy("gpu", sessions),
        processors_energy=_energy("processors", sessions),
    )


def _energy(source: str, sessions: Iterable[Session]) -> float | None:
    joules = _total(None if session.usage is None else session.usage.joules.get(source) for session in sessions)
    return None if joules is None else joules / JOULES


def _total(values: Iterable[float | None]) -> float | None:
    """Return the sum; None of nothing, and if one is not known."""
    known = list(values)
    return sum(value for value in known if value is not None) if known and None not in known else None


def _once(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in texts if text))


def _device(session: Session) -> str:
    processor = f", {session.processor}" if session.processor else ""
    return f"{session.device_name} ({counted(session.cpu_threads, 'CPU thread')}{processor})"


def _versions(session: Session) -> str:
    packages = " ".join(f"{name} {session.versions[name]}" for name in ("torch", "numpy") if name in session.versions)
    return f"Python {session.python}, {packages}"


def _commit(session: Session) -> str:
    git = session.git
    return "" if git is None else f"{git.commit[:12]}{' with changes' if git.dirty else ''}"


def _minute(moment: str) -> str:
    try:
        return datetime.fromisoformat(moment).strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return moment
