"""What holds for every test, and for the examples in the docstrings of src/longlag.

Shape annotations are executed: beartype checks those of the scan. The rest is left out: it names
no shapes, and what it says of a wrong argument is a message of its own, which the tests read.
"""

import importlib.util
import re
import signal
from collections.abc import Iterator

import pytest
import torch
from jaxtyping import install_import_hook

install_import_hook("longlag.scan", "beartype.beartype")

OF_AN_EXTRA = {"jax": "src/longlag/lab/bench/peers/jax_scan.py"}
"""Files that cannot be imported without a package which the tests can do without."""

collect_ignore = [
    path for package, path in OF_AN_EXTRA.items() if importlib.util.find_spec(package) is None
]

SLOW = ("faults", "mutation", "test_vowels.py", "one_unit.py")

FEW = ("Elman", "LSTM", "GRU", "Wired", "Leaky trained", "own")
"""Cells of all kinds: one and several states and gates, unit parameters, every connection."""

OF_EVERY_CELL = (
    "test_gradients", "test_second_derivatives", "test_repeated_runs_have_the_same_bits",
    "test_it_takes_any_float", "test_without_steps_the_state_stays_and_so_does_its_gradient",
    "test_it_is_bptt_for_every_cell", "test_it_is_its_definition_for_every_cell",
    "test_kernels_for_other_processors", "test_the_terms_of_the_weights_of_any_cell",
    "test_so_it_is_for_a_layer_alone_in_both_precisions", "test_it_is_bptt_bit_for_bit",
    "test_a_row_alone_is_its_row_in_the_batch", "test_the_sum_over_lags_is_bptt",
    "test_an_error_of_the_final_states_alone", "test_any_number_of_threads_gives_the_same",
    "test_values_stay_and_gradients_are_the_errors",
    "test_what_is_kept_or_computed_again_is_the_same",
    "test_nothing_is_read_before_it_is_written_nor_written_beside_it",
    "test_blocks_change_nothing_whatever_the_shapes", "test_the_joint_errors_of_any_cell",
    "test_gradients_of_windows_that_carry_a_state_may_be_differentiated_again",
    "test_windows_with_the_state_carried_are_one_long_run", "test_a_reset_cuts_a_sequence_in_two",
    "test_how_many_steps_are_collected_makes_no_difference",
    "test_the_ratio_of_any_cell_is_that_of_its_jacobian", "test_blocks_of_any_size_equal_one_block",
)  # fmt: skip
"""Costly tests that run for each cell: `make test` takes a few cells, `make test-long` all. That
every backend is the reference, which the others build on, is always shown for all."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark whole folders and files as slow; and what costly tests do for one cell more, as long."""
    from tests.scan import cases

    others = [re.escape(name) for name in cases.CELLS if name not in FEW]
    of_others = re.compile(rf"(^|-)({'|'.join(others)})($|-)")
    for item in items:
        if any(part in SLOW for part in item.path.parts):
            item.add_marker(pytest.mark.slow)
        case = getattr(item, "callspec", None)
        if case and item.originalname in OF_EVERY_CELL and of_others.search(case.id):  # type: ignore[attr-defined]
            item.add_marker(pytest.mark.long)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled kernels of this session alone; the workers of one session share them."""
    folder = tmp_path_factory.getbasetemp()
    if folder.name.startswith("popen-"):
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGLAG_CACHE", str(folder / "cache"))
        yield


@pytest.fixture(scope="session", autouse=True)
def _signals_arrive() -> Iterator[None]:
    """Ctrl-C and SIGTERM reach the tests, and the processes that they start, as in a terminal.

    A process that nohup or a script's ``&`` started ignores them, and so would its children.
    """
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    ignored = [number for number in usual if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, usual[number])
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small matrices, and the same bits whatever the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
