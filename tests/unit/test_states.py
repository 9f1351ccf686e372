from __future__ import annotations

from webapp.domain.states import JOB_MOVES, TERMINAL_JOBS, TERMINAL_WINDOWS, WINDOW_MOVES, JobStatus, WindowStatus


def test_terminal_is_for_ever() -> None:
    for moves, terminal in ((JOB_MOVES, TERMINAL_JOBS), (WINDOW_MOVES, TERMINAL_WINDOWS)):
        assert not any(sources & terminal for sources in moves.values())


def test_every_state_but_the_first_can_be_reached() -> None:
    assert set(JOB_MOVES) == set(JobStatus)
    assert set(WINDOW_MOVES) == set(WindowStatus) - {WindowStatus.OPEN}
