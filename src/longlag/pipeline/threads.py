"""How many processor threads a training or a prediction uses."""

from collections.abc import Iterator
from contextlib import contextmanager

from longlag.arguments import check_whole


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let PyTorch use so many threads inside, and as many as before afterwards."""
    import torch  # here: it takes seconds to import

    check_whole("threads", count, 1)
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
