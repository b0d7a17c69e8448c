"""What a verb asks for: a function of the package by its path, which is imported only when it is called."""

from typing import Any


class Work:
    """A call that is yet to be made.

    Attributes:
        function: "module:name" of what does the work; the same function that Python users call.
        arguments: in order.
        options: by name.
        shown_by: "module:name" of what prints the result in a terminal; None prints nothing.
    """

    def __init__(self, function: str, *arguments: Any, shown_by: str | None = None, **options: Any) -> None:
        """Note the call; nothing is imported yet."""
        self.function, self.arguments, self.options, self.shown_by = function, arguments, options, shown_by
