import pytest
import torch
from tests.scan import cases

import longlag as ll
from longlag.layers.base import take_last

LENGTHS = torch.tensor([6, 0, 2, 5])


def model_of(reduce, direct=True, seed=0, layer=None, **options):
    layer = cases.layer_of(ll.cells.GRU(), 2, 3, seed=4) if layer is None else layer
    return ll.SequenceModel(layer, 5, reduce=reduce, direct=direct, seed=seed, **options)


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("reduce", [None, "last", "mean"])
def test_the_readout_is_its_equation(reduce, direct, ragged):
    model, x = model_of(reduce, direct, output_activation="tanh"), cases.random(4, 6, 2)
    lengths = LENGTHS if ragged else None
    output = model(x, lengths=lengths)
    h, _ = model.layer(x, lengths=lengths)
    v, b = model.readout.weight, model.readout.bias
    d = model.readout.weight_direct if direct else torch.zeros(5, 2, dtype=torch.float64)
    for row, length in enumerate(LENGTHS.tolist() if ragged else [6] * 4):
        hs, xs = h[row, :length], x[row, :length]
        if reduce is None:
            expected = torch.tanh(hs @ v.T + xs @ d.T + b)
            torch.testing.assert_close(output[row, :length], expected)
            torch.testing.assert_close(output[row, length:], torch.tanh(b).expand(6 - length, 5))
            continue
        if not length:
            hs, xs = torch.zeros(1, 3).double(), torch.zeros(1, 2).double()
        read, seen = (hs[-1], xs[-1]) if reduce == "last" else (hs.mean(0), xs.mean(0))
        torch.testing.assert_close(output[row], torch.tanh(read @ v.T + seen @ d.T + b))


@pytest.mark.parametrize("reduce", [None, "last", "mean"])
def test_padding_even_nan_changes_nothing(reduce):
    model, x = model_of(reduce), cases.random(4, 6, 2)
    padding = (torch.arange(6) >= LENGTHS.unsqueeze(-1)).unsqueeze(-1)
    results = []
    for filling in (0.0, float("nan"), float("inf")):
        given = x.masked_fill(padding, filling).requires_grad_()
        output = model(given, lengths=LENGTHS)
        gradients = torch.autograd.grad(output.square().sum(), [given, *model.parameters()])
        results.append([output, *gradients])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("reduce", [None, "last", "mean"])
def test_replicas_are_that_many_networks(reduce):
    layer = cases.layer_of(ll.cells.GRU(), 2, 3, replicas=2)
    many, x = model_of(reduce, layer=layer), cases.random(2, 4, 6, 2)
    lengths = torch.stack([LENGTHS, LENGTHS.flip(0)])
    output = many(x, lengths=lengths)
    output.square().sum().backward()
    for r in range(2):
        one = model_of(reduce)
        one.load_state_dict({name: value[r] for name, value in many.state_dict().items()})
        alone = one(x[r], lengths=lengths[r])
        alone.square().sum().backward()
        torch.testing.assert_close(alone, output[r], rtol=1e-12, atol=1e-13)
        for mine, theirs in zip(one.parameters(), many.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad[r], rtol=1e-11, atol=1e-12)


def test_a_bidirectional_module_is_read_after_both_of_its_ends():
    net = ll.Bidirectional(cases.layer_of(ll.cells.GRU(), 2, 3))
    model, x = model_of("last", direct=False, layer=net), cases.random(4, 6, 2)
    _, final = net(x, lengths=LENGTHS)
    read = torch.cat([final.forward.h, final.backward.h], -1)
    read = read * (LENGTHS > 0).unsqueeze(-1)
    torch.testing.assert_close(model(x, lengths=LENGTHS), model.readout(read))


def test_run_gives_the_state_to_go_on_from():
    model, x = model_of(None), cases.random(2, 6, 2)
    first, state = model.run(x[:, :2])
    second, _ = model.run(x[:, 2:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), model(x))


def test_empty_inputs():
    for reduce, shape in ((None, (2, 0, 5)), ("last", (2, 5)), ("mean", (2, 5))):
        output = model_of(reduce)(torch.zeros(2, 0, 2).double())
        assert output.shape == shape
        assert torch.isfinite(output).all()
    assert model_of("last")(torch.zeros(0, 6, 2).double()).shape == (0, 5)


# The counts of the course and of the paper of 1997


@pytest.mark.parametrize(("reduce", "steps"), [("last", ""), (None, "T, "), ("mean", "")])
def test_the_table_of_the_lecture(reduce, steps):
    model = ll.SequenceModel(ll.Elman(15, 16), 8, reduce=reduce)
    rows = str(model.summary()).splitlines()
    assert rows[-1] == "512 + 136 = 648 parameters, 648 of them trained"
    assert f"layer (Elman)         (N, {steps}16)" in rows[2]
    assert rows[2].endswith(" 512")
    assert f"readout (Readout)     (N, {steps}8)" in rows[3]
    assert rows[3].endswith(" 136")
    assert model.summary().parameters == sum(p.numel() for p in model.parameters()) == 648
    shape = (3, 64, 8) if reduce is None else (3, 8)
    assert model(torch.zeros(3, 64, 15)).shape == shape


@pytest.mark.parametrize(("delay", "weights"), [(4, 36), (10, 144), (100, 10404)])
def test_the_weights_of_the_long_time_lag_problem_2a(delay, weights):
    """One hidden unit, p + 1 symbols in and out, all connected forward, no biases: (p + 2)^2."""
    symbols = delay + 1
    layer = ll.Elman(symbols, 1, activation="sigmoid", bias=False)
    model = ll.SequenceModel(
        layer, symbols, reduce=None, direct=True, bias=False, output_activation="sigmoid"
    )
    assert model.summary().parameters == (delay + 2) ** 2 == weights


def test_the_weights_of_lstm_on_problem_2a():
    layer = ll.LSTM1997(
        101, 1, output_gate=False, recurrent=False, cell_input="sigmoid", cell_output="identity",
        bias=False,
    )  # fmt: skip
    model = ll.SequenceModel(layer, 101, reduce=None, direct=True, bias=False)
    assert model.summary().parameters == 10504


def test_the_table_lists_a_stack_by_layer_and_what_is_frozen():
    lower, upper = ll.LSTM(3, 4), ll.Elman(4, 5)
    lower.requires_grad_(False)
    summary = ll.SequenceModel(ll.Stack(lower, upper), 2).summary()
    assert [(row.name, row.kind, row.shape) for row in summary.rows] == [
        ("layer.0", "LSTM", "(N, T, 4)"),
        ("layer.1", "Elman", "(N, 5)"),
        ("readout", "Readout", "(N, 2)"),
    ]
    count = 4 * 4 * (3 + 4 + 1)
    assert summary.parameters - summary.trained == count
    assert repr(summary) == str(summary)
    tied = ll.SequenceModel(ll.Stack(ll.Elman(4, 4), ll.Elman(4, 4)), 4)
    tied.layer.layers[1].weight_hh = tied.layer.layers[0].weight_hh
    assert [row.parameters for row in tied.summary().rows] == [36, 20, 20]
    replicated = ll.SequenceModel(ll.Elman(15, 16, replicas=3), 8).summary()
    assert replicated.rows[0].shape == "(3, N, 16)"
    assert replicated.parameters == 3 * 648


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"layer": torch.nn.LSTM(2, 3)}, TypeError, "layer: got LSTM, expected a recurrent module"),
        ({"reduce": "sum"}, ValueError, "reduce: got 'sum', expected one of None, 'last', 'mean'"),
        ({"output_size": 0}, ValueError, "output_size: got 0, expected at least 1"),
        ({"output_size": 2.0}, TypeError, r"output_size: got 2.0 \(float\), expected a whole"),
        (
            {"output_activation": "softmax"},
            ValueError,
            "output_activation: got 'softmax', expected",
        ),
        ({"readout_init": "he"}, ValueError, "readout_init: got 'he', expected one of 'glorot'"),
    ],
)
def test_what_is_out_of_range_is_refused(arguments, error, message):
    arguments = {"layer": ll.Elman(2, 3), "output_size": 4, **arguments}
    with pytest.raises(error, match=message):
        ll.SequenceModel(**arguments)


def test_take_last():
    sequence = torch.arange(12.0).view(2, 3, 2)
    assert take_last(sequence, None).tolist() == [[4.0, 5.0], [10.0, 11.0]]
    assert take_last(sequence, torch.tensor([0, 2])).tolist() == [[0.0, 0.0], [8.0, 9.0]]
    assert take_last(sequence[:, :0], None).tolist() == [[0.0, 0.0]] * 2
