"""Errors of the user's world: the command line and the web page show them as one sentence, without a traceback."""


class HdmlError(Exception):
    """Something the user can put right. The message says what must hold, what was found and what to do."""


class UnknownItem(HdmlError):
    """An item, or what belongs to it, is asked for that is not there, or not any more."""


class UnreadableImage(HdmlError):
    """A photo that cannot be read; the message is the reason, without the path."""
