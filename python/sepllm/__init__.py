"""SepLLM: language models on the CPU whose attention keeps only initial tokens, separators and a neighbouring window.

    import sepllm
    model = sepllm.Model.load("path/to/model")
    for piece in model.generate("Once upon a time", stream=True, policy=sepllm.Policy.sep(window=64)):
        print(piece, end="")

Objects may be used from any thread; a session by one call at a time. Long calls release the GIL, and Ctrl-C ends them with
KeyboardInterrupt. Errors are subclasses of sepllm.Error with the engine's message.
"""

from ._core import __version__
from ._errors import (
    BadFile,
    Busy,
    Cancelled,
    Error,
    InternalError,
    InvalidArgument,
    InvalidState,
    IOFailure,
    NotFound,
    OutOfMemory,
    OutOfRange,
    Unsupported,
)
from ._model import (
    Generated,
    KvStats,
    Model,
    Runtime,
    Session,
    TextStream,
    Tokenizer,
    decode_together,
    read_together,
    set_log,
)
from ._policy import Policy

__all__ = [
    "BadFile", "Busy", "Cancelled", "Error", "Generated", "IOFailure", "InternalError", "InvalidArgument", "InvalidState",
    "KvStats", "Model", "NotFound", "OutOfMemory", "OutOfRange", "Policy", "Runtime", "Session", "TextStream", "Tokenizer",
    "Unsupported", "__version__", "decode_together", "read_together", "set_log",
]
