"""What the engine raises: one class for each status of include/sepllm/sepllm.h."""


class Error(Exception):
    """The base of all errors of this package; its text is one line of the engine."""


class InvalidArgument(Error, ValueError):
    """An argument or an option is wrong."""


class NotFound(Error, LookupError):
    """A file, tensor or name is missing."""


class BadFile(Error, ValueError):
    """A file's content contradicts its format or another file."""


class Unsupported(Error, NotImplementedError):
    """Well-formed, but not supported."""


class OutOfRange(Error, ValueError):
    """A limit of the model or the machine is exceeded."""


class IOFailure(Error, OSError):
    """The operating system reported a failure."""


class OutOfMemory(Error, MemoryError):
    """There is not enough memory."""


class Busy(Error, RuntimeError):
    """Another call uses the session at this moment."""


class InvalidState(Error, RuntimeError):
    """The object is not ready for this call, or it is closed."""


class Cancelled(Error):
    """The call was cancelled."""


class InternalError(Error, RuntimeError):
    """A bug of the engine; please report it."""


# By the number of the status.
CLASSES = (None, InvalidArgument, NotFound, BadFile, Unsupported, OutOfRange, IOFailure, OutOfMemory, Busy, InvalidState,
           Cancelled, InternalError)
