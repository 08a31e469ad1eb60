"""The compiled step gives what the eager one gives, and everything around it stays as it was."""

import copy
import itertools
import signal

import numpy as np
import pytest
import torch
from tests.training.helpers import Held, Net, Stream, same_tree, saved, sums, weights
from torch import nn
from torch.optim import SGD, Adam, AdamW, RMSprop
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

import longlag as ll
from longlag.training import (
    Checkpoint,
    EarlyStopping,
    Lion,
    NonFiniteLossError,
    Quantile,
    Schedule,
    TrainingInterrupted,
    WeightedCrossEntropy,
    fit,
)
from longlag.training.compiled.head import Head
from longlag.training.compiled.optimizers import COEFFICIENTS, coefficients, rule_of
from longlag.training.compiled.piece import Piece

COUNT, STEPS, INPUTS, HIDDEN = 23, 6, 3, 5  # batches of 5, and one of 3


WEIGHTED = WeightedCrossEntropy((0.2, 3, 0))


def data(dtype=torch.float64, *, outputs=3, loss="cross_entropy", each_step=False, ragged=False):
    x, target = whole(dtype, outputs, loss, each_step)
    if not ragged:
        return x, target
    lengths = torch.arange(COUNT) % (STEPS + 1)
    x[torch.arange(STEPS) >= lengths.unsqueeze(1)] = float("nan")
    return x, target, lengths


def whole(dtype, outputs, loss, each_step):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(COUNT, STEPS, INPUTS, generator=generator, dtype=dtype)
    front = (COUNT, STEPS) if each_step else (COUNT,)
    if loss not in ("cross_entropy", WEIGHTED):
        target = torch.randn(*front, outputs, generator=generator, dtype=dtype)
        if loss == "logistic":
            target = (target > 0).to(dtype)
        target[0] = float("nan")
        target[1, ..., 0] = float("nan")
        return x, target
    target = torch.randint(0, outputs, front, generator=generator)
    target[0] = -100
    if each_step:
        target[1:4, 2:] = -100
    return x, target


def model(layer=None, *, outputs=3, each_step=False, reduce="last", dtype=torch.float64, **readout):
    layer = layer or ll.Elman(INPUTS, HIDDEN, seed=1, dtype=dtype)
    reduce = None if each_step else reduce
    return ll.SequenceModel(layer, outputs, reduce=reduce, seed=2, **readout)


def run(network, given, step="compiled", **options):
    settings = {"batch_size": 5, "epochs": 3, "progress": False, "seed": 3, **options}
    return fit(network, given, step=step, **settings)


def stacked(dtype):
    below = ll.LSTM(INPUTS, HIDDEN, seed=1, dtype=dtype)
    return ll.Stack(below, ll.IndRNN(HIDDEN, 4, seed=2, dtype=dtype))


def dropping(inputs, hidden, **options):
    """Dropout between all layers, and of states."""
    inner = ll.Stack(
        ll.GRU(hidden, 4, **options), ll.Elman(4, 3, recurrent_dropout=0.2, **options), dropout=0.4
    )
    below = ll.LSTM(inputs, hidden, recurrent_dropout=0.2, **options)
    return ll.Stack(below, inner, dropout=0.3)


def both(inputs, hidden, **options):
    """Both directions, with dropout of states and of inputs."""
    options |= {"input_dropout": 0.2, "recurrent_dropout": 0.3}
    return ll.Bidirectional(ll.LSTM(inputs, hidden, **options), seed=3)


def both_stacked(inputs, hidden, **options):
    """Both directions on both directions on one, of different layers."""
    below = ll.Bidirectional(ll.GRU(inputs, hidden, **options), ll.Elman(inputs, 17, **options))
    above = ll.Bidirectional(ll.GRU(4, 2, **options), ll.Elman(4, 3, **options))
    middle = ll.Elman(hidden + 17, 4, **options)
    return ll.Stack(below, ll.Stack(middle, above, dropout=0.2), dropout=0.3)


def both_of_stacks(inputs, hidden, **options):
    """Both directions of a Stack, with dropout of all kinds, on both directions of one."""
    options |= {"recurrent_dropout": 0.3}
    ahead = ll.Stack(
        ll.LSTM(inputs, hidden, input_dropout=0.2, **options), ll.Elman(hidden, 4, **options),
        dropout=0.4,
    )  # fmt: skip
    back = ll.GRU(inputs, 3, input_dropout=0.2, **options)
    below, inner = ll.Bidirectional(ahead, back), ll.Stack(ll.Elman(7, 5, **options))
    above = ll.Stack(inner, ll.GRU(5, 4, dilation=2, **options), dropout=0.2)
    return ll.Stack(below, ll.Bidirectional(above, seed=3), dropout=0.3)


def frozen(kind):
    """A layer that is not trained."""

    def made(inputs, hidden, **options):
        return kind(inputs, hidden, **options).requires_grad_(requires_grad=False)

    return made


def dilated_stack(inputs, hidden, **options):
    """Dilations of which the sequences are no multiple, one longer than they are."""
    layers = [ll.LSTM(inputs, hidden, dilation=2, **options)]
    layers += [
        ll.GRU(hidden, 4, dilation=4, recurrent_dropout=0.2, **options),
        ll.Elman(4, 3, dilation=9, **options),
    ]
    return ll.Stack(*layers, dropout=0.2)


def both_dilated(inputs, hidden, **options):
    return ll.Bidirectional(ll.GRU(inputs, hidden, dilation=3, **options), seed=3)


def skipping(inputs, hidden, **options):
    """A layer that reads further back than a step, and one that does not."""
    return ll.Stack(
        ll.Skip(inputs, hidden, delays=(1, 3), **options), ll.Elman(hidden, 4, **options)
    )


CASES = {
    "elman": (ll.Elman, lambda p: RMSprop(p, 1e-3), {"clip_norm": 0.2}),
    "lstm": (ll.LSTM, lambda p: Adam(p, 1e-2), {"clip_norm": 0.2}),
    "gru": (ll.GRU, lambda p: AdamW(p, 1e-2, weight_decay=0.1), {"each_step": True}),
    "reset before": (
        lambda *sizes, **options: ll.GRU(*sizes, reset_after=False, **options),
        lambda p: Adam(p, 1e-2, weight_decay=0.1),
        {"outputs": 19},
    ),
    "leaky": (
        ll.Leaky,
        lambda p: SGD(p, 1e-2, momentum=0.9, nesterov=True, weight_decay=0.01),
        {"loss": "mse", "each_step": True},
    ),
    "logistic": (ll.GRU, lambda p: SGD(p, 0.3), {"loss": "logistic", "ragged": True}),
    "logistic of many": (
        ll.Elman,
        lambda p: Adam(p, 1e-2),
        {"loss": "logistic", "outputs": 19, "each_step": True},
    ),
    "lion": (ll.GRU, lambda p: Lion(p, 1e-3, weight_decay=0.1), {"outputs": 5}),
    "quantile": (ll.LSTM, lambda p: Lion(p, 1e-3), {"loss": Quantile(0.8), "each_step": True}),
    "weights": (ll.GRU, lambda p: Adam(p, 1e-2), {"loss": WEIGHTED, "each_step": True}),
    "indrnn": (ll.IndRNN, lambda p: SGD(p, 1e-2), {"loss": "mae", "outputs": 1}),
    "1997": (
        ll.LSTM1997,
        lambda p: RMSprop(p, 1e-3, centered=True, momentum=0.5, weight_decay=0.01),
        {"loss": "mse", "outputs": 11},
    ),
    "no bias": (
        lambda *sizes, **options: ll.LSTM(*sizes, bias=False, **options),
        lambda p: SGD(p, 1e-2, momentum=0.9, dampening=0.3),
        {},
    ),
    "stack": (None, lambda p: Adam(p, 1e-2), {"each_step": True}),
    "mean": (ll.GRU, lambda p: Adam(p, 1e-2), {"reduce": "mean"}),
    "ragged": (ll.LSTM, lambda p: Adam(p, 1e-2), {"ragged": True}),
    "ragged mean": (ll.Elman, lambda p: SGD(p, 1e-2), {"ragged": True, "reduce": "mean"}),
    "dropout": (
        lambda *sizes, **options: ll.LSTM(
            *sizes, input_dropout=0.3, recurrent_dropout=0.4, **options
        ),
        lambda p: Adam(p, 1e-2),
        {"ragged": True, "direct": True},
    ),
    "dropout between": (dropping, lambda p: Adam(p, 1e-2), {"each_step": True, "ragged": True}),
    **{
        f"both directions, {name}": (both, lambda p: Adam(p, 1e-2), options)
        for name, options in {
            "last": {},
            "mean": {"reduce": "mean"},
            "each": {"each_step": True, "ragged": True},
            "ragged last": {"ragged": True, "direct": True},
            "ragged mean": {"ragged": True, "reduce": "mean"},
        }.items()
    },
    "dilated": (dilated_stack, lambda p: Adam(p, 1e-2), {"clip_norm": 0.2}),
    "dilated, ragged": (dilated_stack, lambda p: Adam(p, 1e-2), {"ragged": True}),
    "dilated, each": (dilated_stack, lambda p: SGD(p, 0.1), {"ragged": True, "each_step": True}),
    "dilated, mean": (dilated_stack, lambda p: SGD(p, 0.1), {"ragged": True, "reduce": "mean"}),
    "both dilated": (both_dilated, lambda p: Adam(p, 1e-2), {"ragged": True}),
    "delays": (skipping, lambda p: Adam(p, 1e-2), {}),
    "delays, ragged": (skipping, lambda p: Adam(p, 1e-2), {"ragged": True, "each_step": True}),
    "both stacked, last": (both_stacked, lambda p: SGD(p, 1e-2), {"ragged": True}),
    "both of stacks": (both_of_stacks, lambda p: Adam(p, 1e-2), {"each_step": True}),
    "both of stacks, ragged": (both_of_stacks, lambda p: Adam(p, 1e-2), {"ragged": True}),
    "both of stacks, mean": (
        both_of_stacks,
        lambda p: SGD(p, 0.1),
        {"ragged": True, "reduce": "mean"},
    ),
    "frozen": (frozen(both_of_stacks), lambda p: Adam(p, 1e-2), {"ragged": True, "direct": True}),
    "share": (frozen(ll.GRU), lambda p: SGD(p, 0.1), {"reduce": "share", "ragged": True}),
    **{
        f"share_max, {name}": (
            frozen(lambda *_, **own: ll.Bidirectional(ll.Elman(INPUTS, 19, **own), seed=2)),
            lambda p: Adam(p, 1e-2),
            {"reduce": "share_max", **options},
        )
        for name, options in {"whole": {}, "ragged": {"ragged": True, "loss": "mse"}}.items()
    },
    **{
        f"attention, {name}": (kind, lambda p: Adam(p, 1e-2), {"reduce": "attention", **options})
        for name, kind, options in (
            ("whole", ll.LSTM, {"clip_norm": 0.2}),
            ("ragged", lambda _, width, **own: ll.Elman(INPUTS, 37, **own), {"ragged": True}),
            ("both directions", both, {"ragged": True}),
            ("frozen", frozen(ll.GRU), {"ragged": True}),
        )
    },
    "direct": (ll.GRU, lambda p: Adam(p, 1e-2), {"direct": True}),
    "direct, ragged": (
        ll.LSTM1997,
        lambda p: Adam(p, 1e-2),
        {"direct": True, "ragged": True, "output_activation": "sigmoid", "loss": "mse"},
    ),
    "direct, each step": (
        ll.Elman,
        lambda p: Adam(p, 1e-2),
        {
            "direct": True,
            "ragged": True,
            "output_activation": "tanh",
            "loss": "mae",
            "each_step": True,
            "outputs": 17,
            "bias": False,
        },
    ),
    "ragged stack": (
        None,
        lambda p: RMSprop(p, 1e-3),
        {"ragged": True, "each_step": True, "loss": "mse"},
    ),
}


COMPOSED = [
    case for case in CASES
    if case.startswith(("both", "dilated")) and case != "both of stacks, ragged"
]  # fmt: skip
"""Made of what others have alone, or the one that is left out here has together."""


@pytest.mark.parametrize(
    ("dtype", "case"),
    [
        *((torch.float64, case) for case in CASES),
        *(
            pytest.param(
                torch.float32,
                case,
                marks=pytest.mark.long if case in COMPOSED else pytest.mark.slow,
            )
            for case in CASES
        ),
    ],
    ids=str,
)
def test_after_1_10_and_100_updates_all_is_as_after_eager_ones(dtype, case):
    kind, optimizer, options = CASES[case]
    of_data = {"outputs", "each_step", "loss", "ragged"} & set(options)
    of_model = set(options) - {"clip_norm", "loss", "ragged"}
    given = data(dtype, **{name: options[name] for name in of_data})
    described = {name: options[name] for name in of_model}
    loss = options.get("loss")
    options = {name: value for name, value in options.items() if name == "clip_norm"}
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    for steps in (1, 10, 100):
        results = []
        for step in ("eager", "compiled"):
            layer = stacked(dtype) if kind is None else kind(INPUTS, HIDDEN, seed=1, dtype=dtype)
            network, made = model(layer, **described, dtype=dtype), []
            history = run(
                network, given, step, loss=loss, epochs=None, steps=steps, **options,
                optimizer=lambda p, made=made: made.append(optimizer(p)) or made[0],
            )  # fmt: skip
            assert history.step == step
            results.append((history, weights(network), made[0].state_dict()["state"]))
        (eager, before, states), (compiled, after, further) = results
        for one, other in zip(eager.records, compiled.records, strict=True):
            assert one.loss == pytest.approx(other.loss, rel=tolerance)
        close(eager.losses, compiled.losses, tolerance)
        close(eager.gradient_norms, compiled.gradient_norms, tolerance)
        for name in before:
            close(before[name], after[name], tolerance)
        for number, state in states.items():
            for name in state:
                if state[name] is not None:
                    close(state[name], further[number][name], tolerance)


def close(one, other, tolerance):
    one, other = torch.as_tensor(one), torch.as_tensor(other)
    assert one.shape == other.shape
    if len(one.reshape(-1)):
        assert float((one - other).abs().max()) <= tolerance * max(1.0, float(one.abs().max()))


def test_what_is_not_kept_for_the_backward_pass_is_found_again(monkeypatch):
    """Pieces of the steps, of a dilated layer too; those of a cell with delays are PyTorch's."""
    monkeypatch.setattr("longlag.scan.cpu.backend.RESIDUALS", 4000)
    for dilation in (1, 2):
        results = []
        for step in ("eager", "compiled"):
            layer = ll.LSTM(INPUTS, HIDDEN, dilation=dilation, seed=1, dtype=torch.float64)
            network = model(layer)
            results.append((run(network, data(), step).losses, weights(network)))
        close(results[0][0], results[1][0], 1e-12)
        for name, value in results[0][1].items():
            close(value, results[1][1][name], 1e-12)


def test_the_same_run_gives_the_same_bits_whatever_the_blocks_and_beside_others():
    one, other = model(), model()
    history = run(one, data(), epochs=4, clip_norm=0.5)
    again = run(other, data(), epochs=4, clip_norm=0.5, validate_every=1, validation=data())
    np.testing.assert_array_equal(history.losses, again.losses)
    assert same_tree(weights(one), weights(other))


@pytest.mark.parametrize("kind", [Adam, AdamW, RMSprop, SGD, Lion])
def test_the_numbers_of_many_updates_are_those_of_one_after_the_other(kind):
    optimizer = kind([nn.Parameter(torch.zeros(1))], lr=0.003, weight_decay=0.1)
    group = optimizer.param_groups[0]
    given = [rule_of(optimizer, group)] * 2, [group] * 2, (7, 900)
    at_once = coefficients(*given, 50)
    np.testing.assert_array_equal(at_once, coefficients(*given, 50, lambda: None))
    assert at_once.shape == (50, 2 * COEFFICIENTS)
    if kind is Adam:
        assert at_once[4, 0] == -(0.003 / (1 - 0.9**12))


def test_a_function_that_is_called_with_other_arguments_is_named():
    piece = Piece("longlag_test", "drive", False, 1)
    piece.call("drive", piece.i64(0), piece.i64(1))
    functions = Head(False, None, 4, 4).sizes.functions()
    with pytest.raises(TypeError, match="drive: is called with 2 arguments, and has 12"):
        piece.finish().noted(drive=functions["drive"])


@pytest.mark.parametrize(
    ("steps", "reduce"), [(1, "last"), (2, "last"), (7, "last"), (7, "attention"), (10, "last")]
)
def test_a_run_that_stops_and_goes_on_has_the_bits_of_one_that_never_did(tmp_path, steps, reduce):
    options = {"epochs": None, "optimizer": lambda p: Adam(p, 0.01), "validate_every": 4}
    whole, parts = (
        model(
            ll.GRU(INPUTS, HIDDEN, input_dropout=0.2, recurrent_dropout=0.2, seed=1), reduce=reduce
        )
        for _ in range(2)
    )
    given = data(torch.float32)

    def schedule():
        return Schedule(lambda o: OneCycleLR(o, 0.05, total_steps=40), every="step")

    folders = tmp_path / "whole", tmp_path / "parts"
    run(whole, given, steps=13, scheduler=schedule(), checkpoint=Checkpoint(folders[0]), **options)
    for stop in (steps, 13):
        kept = Checkpoint(folders[1], every_steps=3)
        history = run(parts, given, steps=stop, scheduler=schedule(), checkpoint=kept, **options)
    assert history.step == "compiled"
    assert same_tree(weights(whole), weights(parts))
    first, second = map(saved, folders)
    assert same_tree(first, second)


def test_schedules_early_stopping_and_records_are_those_of_eager_updates():
    results = []
    for step in ("eager", "compiled"):
        network = model()
        history = run(
            network, data(), step, epochs=30, validation=data(), metrics="accuracy",
            optimizer=lambda p: SGD(p, 0.3, momentum=0.5),
            scheduler=Schedule(lambda o: OneCycleLR(o, 2.0, total_steps=200), every="step"),
            early_stopping=EarlyStopping(patience=2),
        )  # fmt: skip
        results.append((history, weights(network)))
    (eager, before), (compiled, after) = results
    assert (eager.stopped, eager.best_step) == (compiled.stopped, compiled.best_step)
    assert eager.stopped == "early stopping"
    assert len(eager) == len(compiled)
    for one, other in zip(eager.records, compiled.records, strict=True):
        assert one.learning_rate == pytest.approx(other.learning_rate, rel=1e-12)
        assert one.validation_loss == pytest.approx(other.validation_loss, rel=1e-9)
        assert one.metrics == other.metrics
    for name in before:
        close(before[name], after[name], 1e-9)


def test_weights_of_steps_may_lie_far_apart():
    given, results = data(ragged=True), []
    for step in ("eager", "compiled"):
        network = model(reduce="attention")
        assert network.attention is not None
        with torch.no_grad():
            network.attention.vector.copy_(torch.linspace(-9e4, 3e4, HIDDEN))
        history = run(network, given, step, batch_size=21, optimizer=lambda p: SGD(p, 0.1))
        results.append((history.losses, weights(network)))
    (eager, before), (compiled, after) = results
    close(eager, compiled, 1e-10)
    for name in before:
        close(before[name], after[name], 1e-10)


@pytest.mark.parametrize(
    ("reduce", "ragged"), [(None, True), ("last", True), (None, False), ("attention", True)]
)
def test_validation_is_compiled_too(monkeypatch, reduce, ragged):
    given, records = data(each_step=reduce is None, ragged=ragged), []
    for step in ("eager", "compiled"):
        network = model(stacked(torch.float64), each_step=reduce is None, reduce=reduce)
        with monkeypatch.context() as patch:
            if step == "compiled":  # the one eager update
                patch.setattr("longlag.training.evaluation.forward", None)
            history = run(network, given, step, validation=given, metrics="accuracy")
        records.append(history.records)
    for one, other in zip(*records, strict=True):
        assert one.validation_loss == pytest.approx(other.validation_loss, rel=1e-12)
        assert one.metrics == other.metrics


@pytest.mark.parametrize("sequence", [0, 9, 22])
def test_a_loss_that_is_not_finite_stops_before_its_update_with_the_same_error(sequence):
    x, target = data(loss="mse")
    x[sequence] = float("inf")  # of sequence 0 no error is due
    errors, left = [], []
    for step in ("eager", "compiled"):
        network = model(ll.Leaky(INPUTS, HIDDEN, seed=1, dtype=torch.float64))
        with pytest.raises(NonFiniteLossError) as caught:
            run(network, (x, target), step)
        errors.append(caught.value)
        left.append(weights(network))
    eager, compiled = errors
    for name in ("step", "epoch", "seed", "checkpoint", "hint"):
        assert getattr(eager, name) == getattr(compiled, name)
    assert repr(eager.loss) == repr(compiled.loss)
    for name in left[0]:
        close(left[0][name], left[1][name], 1e-12)


def test_a_signal_ends_a_run_that_can_go_on(tmp_path):
    def interrupt(record, _):
        if record.step == 10:
            signal.raise_signal(signal.SIGINT)

    whole, parts = model(), model()
    run(whole, data(), epochs=4)
    with pytest.raises(TrainingInterrupted):
        run(parts, data(), epochs=4, checkpoint=tmp_path, callbacks=[interrupt])
    history = run(parts, data(), epochs=4, checkpoint=tmp_path)
    assert len(history) == 20
    assert same_tree(weights(whole), weights(parts))


def test_several_threads_give_the_same_to_rounding_and_the_same_bits_again(monkeypatch):
    monkeypatch.setattr("longlag.scan.cpu.shape.SMALL", 0)
    given, results, before = data(each_step=True, ragged=True), [], torch.get_num_threads()
    for threads in (1, 3, 3, 2):
        torch.set_num_threads(threads)
        try:
            layer = ll.Stack(
                ll.GRU(INPUTS, HIDDEN, seed=1, dtype=torch.float64),
                ll.IndRNN(HIDDEN, 4, seed=1, dtype=torch.float64),
            )
            network = model(layer, each_step=True)
            assert run(network, given, batch_size=20, epochs=10).step == "compiled"
        finally:
            torch.set_num_threads(before)
        results.append(weights(network))
    one, three, again, two = results
    assert same_tree(three, again)
    for name, value in one.items():
        close(value, three[name], 1e-12)
        close(value, two[name], 1e-12)


def test_a_block_is_short_whatever_was_asked_for():
    from longlag.training.compiled import step

    x = torch.randn(64, 50, 3)
    network = model(ll.LSTM(3, 32, seed=1), dtype=torch.float32)
    sizes = []
    original = step.CompiledSteps.run

    def noting(self, order, after_each):
        sizes.append(len(order))
        return original(self, order, after_each)

    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(step.CompiledSteps, "run", noting)
        patched.setattr(step, "SECONDS", 1e-9)
        run(network, (x, torch.zeros(64, dtype=torch.int64)), epochs=2, batch_size=8)
    assert sizes == [1] * 15


def test_what_a_callback_changes_is_seen():
    """Rate, frozen and thawed weights, numbers put in place of others: as in eager updates."""
    results = []
    for step in ("eager", "compiled"):
        network, made = model(), []

        def change(record, network, made=made):
            made[0].param_groups[0]["lr"] *= 0.5
            network.layer.weight_hh.requires_grad_(record.epoch != 2)
            if record.epoch == 3:
                network.readout.weight.data = network.readout.weight.data * 0.9

        history = run(
            network, data(), step, epochs=5, callbacks=[change],
            optimizer=lambda p, made=made: made.append(SGD(p, 0.1)) or made[0],
        )  # fmt: skip
        assert history.step == step
        results.append((history.losses, weights(network)))
    close(results[0][0], results[1][0], 1e-12)
    for name, value in results[0][1].items():
        close(value, results[1][1][name], 1e-12)


def test_a_callback_that_makes_it_impossible_ends_it():
    def hook(record, network):
        network.register_forward_hook(lambda *_: None)

    network, other = model(), model()
    history = run(network, data(), "auto", callbacks=[hook])
    assert (history.step, history.reason) == ("eager", "the model has hooks")
    run(other, data(), "eager")
    for name, value in weights(other).items():
        close(value, weights(network)[name], 1e-12)


class Watching:
    def after_update(self, step, network):
        """Looks."""


def tied():
    network = model(ll.Elman(3, 3, seed=1, dtype=torch.float64))
    network.readout.weight = network.layer.weight_hh
    return network


def of(layer, **options):
    options = {"seed": 1, "dtype": torch.float64, **options}
    return lambda: model(layer(INPUTS, HIDDEN, **options))


REASONS = {
    "RTRL": (model, {"method": ll.RTRL()}),
    "windows want an output": (model, {"method": ll.TruncatedBPTT(2)}),
    "is a Net": (lambda: Net(INPUTS, outputs=3).double(), {}),
    "the loss is": (model, {"loss": lambda y, t: nn.functional.cross_entropy(y, t)}),
    "looks at each update": (model, {"callbacks": [Watching()]}),
    "Adagrad": (model, {"optimizer": torch.optim.Adagrad}),
    "amsgrad": (model, {"optimizer": lambda p: Adam(p, amsgrad=True)}),
    "has no readout.bias": (model, {"optimizer": lambda p: SGD(p[:-1], 0.1)}),
    "backend": (of(ll.Elman, backend="reference"), {}),
    "not a plain one": (of(ll.Elman, density=0.5), {}),
    "rounded to bfloat16": (of(ll.Elman, weights="bfloat16", dtype=torch.float32), {}),
    "are tied": (tied, {}),
    "batch is one sequence": (of(ll.GRU, dilation=2), {"batch_size": 1}),
    "is dilated, and its cell has delays": (of(ll.Skip, delays=(1, 2), dilation=2), {}),
    "is a Bidirectional": (
        lambda: model(ll.Bidirectional(ll.Bidirectional(ll.GRU(INPUTS, 2, dtype=torch.float64)))),
        {},
    ),
    "sends no error to the layer": (lambda: model(reduce="share"), {}),
    "means of x": (lambda: model(reduce="attention", direct=True), {}),
    "sees squares": (lambda: ll.SequenceModel(of(ll.GRU)().layer, 3, squares=True), {}),
}


@pytest.mark.parametrize("words", REASONS)
def test_what_cannot_be_compiled_is_said(words):
    make, options = REASONS[words]
    with pytest.raises(ValueError, match=f"step is 'compiled', and .*{words}.*use step='auto'"):
        run(make(), data(), **options)
    x, target = data()
    target[0] = 0
    history = run(make(), (x, target), "auto", **options)
    assert history.step == "eager"
    assert words in history.reason


def test_other_data_are_said_too(monkeypatch):
    x, target = data()
    resets = torch.zeros(COUNT, STEPS, dtype=torch.bool)
    network = model(ll.Bidirectional(ll.Elman(INPUTS, HIDDEN, dtype=torch.float64)))
    assert "resets" in run(network, Held(x, target, resets=resets), "auto").reason
    network = model(ll.Elman(INPUTS, HIDDEN, dilation=2, dtype=torch.float64))
    assert "is dilated" in run(network, Held(x, target, resets=resets), "auto").reason
    network = ll.SequenceModel(network.layer, 3, reduce=None)
    each = run(network, data(each_step=True), "auto", method=ll.TruncatedBPTT(2))
    assert "windows go on from the state before" in each.reason
    plain = model(ll.GRU(INPUTS, 4, dtype=torch.float64), each_step=True)
    for whole, steps in ((data(each_step=True), 4), (data(each_step=True, ragged=True), 3)):
        each = run(plain, whole, "auto", method=ll.TruncatedBPTT(steps, 1))
        assert each.reason == "k2 < k1, and some windows are shorter than others"
    network = model(ll.GRU(INPUTS, 4, recurrent_dropout=0.5, dtype=torch.float64), each_step=True)
    each = run(network, data(each_step=True), "auto", method=ll.TruncatedBPTT(2, 3))
    assert "drawn anew for the steps before" in each.reason
    assert run(model(), data(), "eager").reason == "step is 'eager'"
    monkeypatch.setattr("longlag.training.compiled.step.ATTENDED", 1)
    for threads, taken in ((1, "compiled"), (2, "eager")):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert run(model(reduce="attention"), data(), "auto").step == taken
    streams = ll.Streams([x[0].numpy()], [x[0].numpy()])
    layer = ll.Elman(INPUTS, 4, seed=1, dtype=torch.float64)
    network = ll.SequenceModel(layer, INPUTS, reduce=None)
    short = run(network, streams, "auto", batch_size=2, method=ll.TruncatedBPTT(k1=4))
    assert short.reason == "recordings are shorter than a window for each row"
    with pytest.raises(ValueError, match="step is 'fast'; expected 'auto'"):
        run(model(), data(), "fast")


def loader(size, given=None, **options):
    given = given or data()
    return DataLoader(TensorDataset(*given), batch_size=size, shuffle=True, **options)


BATCHES = {
    "stream": lambda: Stream(),
    "loader": lambda: loader(5),
    "loader with a generator": lambda: loader(5, generator=torch.Generator().manual_seed(4)),
    "ragged loader": lambda: loader(7, data(ragged=True)),
}


def of_windows(kind, dropout=0.2):
    """Data with a target at each step, and the network: 20 steps in windows of 6, or of 5."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(11, 20, INPUTS, generator=generator, dtype=torch.float64)
    target = x.cumsum(1).tanh()[..., :2]
    given = x, target
    if kind == "ragged":
        given = x, target, torch.arange(11) * 2
    if kind == "little is due":
        target[:, 3:17] = float("nan")
        target[:4] = float("nan")
    if kind == "classes":
        given = x, (x[..., 0] > 0).long()
    if kind == "short":
        given = x[:, :5], target[:, :5].fill_(float("nan"))
    layers = ll.LSTM(INPUTS, HIDDEN, seed=1, dtype=torch.float64)
    if kind != "short":
        above = ll.LSTM1997(HIDDEN, 4, seed=2, dtype=torch.float64)
        layers = ll.Stack(layers, ll.Stack(above, dropout=dropout / 2), dropout=dropout)
    return model(layers, outputs=2, each_step=True, direct=kind == "ragged"), given


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize(
    ("each_step", "method"),
    [
        (False, ll.BPTT()),
        (True, ll.BPTT()),
        (True, ll.TruncatedBPTT(4)),
        (True, ll.TruncatedBPTT(1, 3)),
    ],
)
def test_resets_begin_anew_as_in_eager_updates(each_step, ragged, method):
    x, target, *lengths = data(each_step=each_step, ragged=ragged)
    resets = torch.rand(x.shape[:2], generator=torch.Generator().manual_seed(5)) < 0.3
    given = Held(x, target, lengths=lengths[0] if ragged else None, resets=resets)
    results = []
    for step in ("eager", "compiled"):
        network = model(stacked(torch.float64), each_step=each_step)
        history = run(network, given, step, validation=given, epochs=4, method=method)
        assert history.step == step
        results.append((history, weights(network)))
    (eager, before), (compiled, after) = results
    close(eager.losses, compiled.losses, 1e-12)
    for one, other in zip(eager.records, compiled.records, strict=True):
        assert one.validation_loss == pytest.approx(other.validation_loss, rel=1e-12)
    for name, value in before.items():
        close(value, after[name], 1e-12)
    other = model(stacked(torch.float64), each_step=each_step)
    assert run(other, (x, target, *lengths), epochs=4, method=method).losses[-1] != (
        pytest.approx(eager.losses[-1], rel=1e-6)
    )


WINDOWED = ["plain", "ragged", "little is due", "classes", "short"]


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        *itertools.product(WINDOWED, [(5,), (6,), (5, 7), (4, 8), (3, 11)]),
        *itertools.product(["plain", "little is due", "short"], [(5, 2)]),
    ],
)
def test_windows_go_on_from_the_state_before_as_eager_ones_do(kind, steps):
    results = []
    for step in ("eager", "compiled"):
        network, given = of_windows(kind, 0.2 if len(steps) == 1 else 0.0)
        history = run(
            network, given, step, batch_size=4, epochs=5, method=ll.TruncatedBPTT(*steps),
            optimizer=lambda p: Adam(p, 1e-2), validation=given, clip_norm=0.3,
            scheduler=Schedule(lambda o: OneCycleLR(o, 0.05, total_steps=150), every="step"),
        )  # fmt: skip
        assert history.step == step
        results.append((history, weights(network)))
    (eager, before), (compiled, after) = results
    close(eager.losses, compiled.losses, 1e-12)
    close(eager.gradient_norms, compiled.gradient_norms, 1e-12)
    for one, other in zip(eager.records, compiled.records, strict=True):
        assert (one.step, one.validation_loss) == pytest.approx(
            (other.step, other.validation_loss), nan_ok=True
        )
    for name in before:
        close(before[name], after[name], 1e-12)


@pytest.mark.parametrize("first", ["eager", "compiled"])
@pytest.mark.parametrize("stop", [2, 3, 7])
@pytest.mark.parametrize("back", [3, 6, 8])
def test_a_run_goes_on_within_a_batch_of_windows(tmp_path, first, stop, back):
    options = {"epochs": None, "batch_size": 4, "method": ll.TruncatedBPTT(3, back)}
    dropout = 0.2 if back == 3 else 0.0
    whole, given = of_windows("ragged", dropout)
    history = run(whole, given, steps=13, checkpoint=tmp_path / "whole", **options)
    for second in ("eager", "compiled"):
        parts, _ = of_windows("ragged", dropout)
        folder = tmp_path / second
        run(parts, given, first, steps=stop, checkpoint=folder, **options)
        again = run(parts, given, second, steps=13, checkpoint=folder, **options)
        close(history.losses, again.losses, 1e-12)
        for name, value in weights(whole).items():
            close(value, weights(parts)[name], 1e-12)
        if first == second == "compiled":
            assert same_tree(saved(tmp_path / "whole"), saved(folder))


def recordings(kind):
    """Three recordings, which three rows of a batch read in windows of 4 steps, the last of 3."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(69, INPUTS, generator=generator, dtype=torch.float64)
    target = x.cumsum(0).tanh()[:, :2]
    if kind == "little is due":
        target[8:20] = target[31:43] = target[54:66] = float("nan")
    parts = [0, 5, 40, 69 if kind == "full" else 68]
    cut = [slice(*pair) for pair in itertools.pairwise(parts)]
    return ll.Streams([x[part].numpy() for part in cut], [target[part].numpy() for part in cut])


def run_recordings(step, kind, back=4, **options):
    above = ll.LSTM1997(HIDDEN, 4, seed=2, dtype=torch.float64)
    below = ll.LSTM(INPUTS, HIDDEN, seed=1, dtype=torch.float64)
    stack = ll.Stack(below, above, dropout=0.1 if back == 4 else 0.0)
    network = model(stack, outputs=2, each_step=True)
    options = {"epochs": 5, "validate_every": 3, **options}
    method = ll.TruncatedBPTT(4, back)
    history = run(
        network, recordings(kind), step, batch_size=3, method=method, clip_norm=0.3,
        scheduler=Schedule(lambda o: OneCycleLR(o, 0.05, total_steps=99), every="step"), **options,
    )  # fmt: skip
    assert history.step == step
    return history, weights(network)


@pytest.mark.parametrize("kind", ["full", "ragged", "little is due"])
@pytest.mark.parametrize("back", [1, 4, 6, 8, 13])
def test_recordings_go_on_from_window_to_window_as_in_eager_updates(kind, back):
    (eager, before), (compiled, after) = (
        run_recordings(step, kind, back) for step in ("eager", "compiled")
    )
    close(eager.losses, compiled.losses, 1e-12)
    close(eager.gradient_norms, compiled.gradient_norms, 1e-12)
    for one, other in zip(eager.records, compiled.records, strict=True):
        assert (one.epoch, one.step) == (other.epoch, other.step)
        assert one.loss == pytest.approx(other.loss, rel=1e-12)
    for name in before:
        close(before[name], after[name], 1e-12)


@pytest.mark.parametrize("first", ["eager", "compiled"])
@pytest.mark.parametrize("stop", [2, 7])
@pytest.mark.parametrize("back", [1, 4, 8, 9])
def test_a_run_goes_on_within_recordings(tmp_path, first, stop, back):
    limits = {"epochs": None, "validate_every": None, "back": back}
    whole = run_recordings("compiled", "ragged", steps=13, **limits)
    run_recordings(first, "ragged", steps=stop, checkpoint=tmp_path, **limits)
    again = run_recordings("compiled", "ragged", steps=13, checkpoint=tmp_path, **limits)
    if first == "compiled":
        assert same_tree(whole[1], again[1])
    close(whole[0].losses, again[0].losses, 1e-12)
    for name, value in whole[1].items():
        close(value, again[1][name], 1e-12)


@pytest.mark.parametrize("kind", BATCHES)
@pytest.mark.parametrize("staged", [1 << 22, 300])
def test_batches_that_come_one_by_one_are_compiled_too(kind, staged, monkeypatch):
    monkeypatch.setattr("longlag.training.compiled.step.STAGED", staged)
    results = []
    for step in ("eager", "compiled"):
        stream = kind == "stream"
        layer = ll.GRU(1 if stream else INPUTS, HIDDEN, seed=1, dtype=torch.float64)
        network = model(layer, outputs=1 if stream else 3)
        history = fit(
            network, BATCHES[kind](), step=step, steps=33, clip_norm=0.5, seed=3, progress=False,
            validate_every=8, validation=None if stream else data(),
            callbacks=[lambda record, model: None],
            scheduler=Schedule(lambda o: OneCycleLR(o, 0.05, total_steps=40), every="step"),
        )  # fmt: skip
        assert history.step == step
        results.append((history, weights(network)))
    (eager, before), (compiled, after) = results
    close(eager.losses, compiled.losses, 1e-10)
    for one, other in zip(eager.records, compiled.records, strict=True):
        assert (one.epoch, one.step) == (other.epoch, other.step)
        assert one.loss == pytest.approx(other.loss, rel=1e-10)
    for name in before:
        close(before[name], after[name], 1e-10)


@pytest.mark.parametrize("first", ["eager", "compiled"])
def test_a_run_that_was_begun_one_way_goes_on_the_other_to_rounding(tmp_path, first):
    whole, parts = model(), model()
    run(whole, data(), epochs=4)
    for step, epochs in ((first, 2), ("eager" if first == "compiled" else "compiled", 4)):
        history = run(parts, data(), step, epochs=epochs, checkpoint=tmp_path)
    assert len(history) == 20
    for name, value in weights(whole).items():
        close(value, weights(parts)[name], 1e-12)


@pytest.mark.parametrize("kind", ["stream", "loader"])
@pytest.mark.parametrize("steps", [1, 7, 10])
def test_such_a_run_goes_on_too(tmp_path, kind, steps):
    def make():
        inputs, outputs = (1, 1) if kind == "stream" else (INPUTS, 3)
        layer = ll.GRU(inputs, HIDDEN, seed=1, dtype=torch.float64)
        return model(layer, outputs=outputs)

    whole, parts = make(), make()
    options = {"progress": False, "step": "compiled", "validate_every": 4}
    fit(whole, BATCHES[kind](), steps=13, **options)
    for stop in (steps, 13):
        kept = Checkpoint(tmp_path, every_steps=3)
        fit(parts, BATCHES[kind](), steps=stop, checkpoint=kept, **options)
    assert same_tree(weights(whole), weights(parts))


def test_batches_of_other_shapes_are_pytorchs():
    class Growing(Stream):
        def batch(self, index):
            return Held(*sums(4, 3 + index % 3))

    results = []
    for step in ("eager", "auto"):
        network = model(ll.Elman(1, HIDDEN, seed=1, dtype=torch.float64), outputs=1)
        history = fit(network, Growing(), step=step, steps=20, progress=False)
        results.append((history, weights(network)))
    assert results[1][0].reason == "batches have other shapes than the first"
    for name, value in results[0][1].items():
        close(value, results[1][1][name], 1e-12)


def test_a_loader_and_dropout_are_pytorchs():
    network = model(ll.Elman(INPUTS, HIDDEN, recurrent_dropout=0.5, dtype=torch.float64))
    assert "one generator" in run(network, loader(5), "auto").reason


def test_a_target_that_does_not_fit_is_the_error_that_it_was():
    x, target = data()
    target[-1] = 3
    with pytest.raises(ValueError, match="target has classes"):
        run(model(), (x, target), "auto")
    with pytest.raises(ValueError, match="expected output"):
        run(model(each_step=True), data(), "auto")


def test_a_model_that_was_trained_is_one_that_autograd_takes_up():
    network = model()
    output = network(data()[0]).square().sum()
    run(copy.deepcopy(network), data())
    output.backward()
    kept = network(data()[0])
    loss = kept.square().sum()
    run(network, data())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
