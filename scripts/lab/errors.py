"""The one error of the lab."""


class LabError(Exception):
    """A step that failed; the console's last lines where a guest was running."""

    def __init__(self, step: str, reason: str, console: tuple[str, ...] = ()) -> None:
        super().__init__(f"{step}: {reason}")
        self.console = console
