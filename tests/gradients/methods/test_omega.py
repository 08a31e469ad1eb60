"""Omega against plain loops that write it out by the paper's definition."""

import math

import pytest
import torch
from tests.gradients.models import MODELS, make, problem
from tests.scan.cases import CELLS, hidden_of, layer_of, random
from torch import nn

import longlag as ll
from longlag.gradients import BPTT, GradientMethod
from longlag.gradients.methods import omega
from longlag.gradients.methods.omega import Omega
from longlag.recurrence.lowered import lower

ONE_STAGE = [name for name, cell in CELLS.items() if not lower(cell.recurrence).inner]
mse = nn.functional.mse_loss


def summed(ratio, squared):
    """Omega of the ratios (N, T) of a batch in which every term counts."""
    terms = ((ratio**2 if squared else ratio) - 1) ** 2
    return terms.mean() if squared else terms.sum(1).mean(0)


def elman(layer, x, target):
    """States and errors of an Elman layer, constants; time in lists."""
    h, states = x.new_zeros(len(x), layer.hidden_size), []
    for t in range(x.shape[1]):
        states.append(h)
        h = torch.tanh(x[:, t] @ layer.weight_ih.T + h @ layer.weight_hh.T + layer.bias)
        h.retain_grad()
    states.append(h)
    mse(torch.stack(states[1:], 1), target).backward()
    errors = [state.grad for state in states[1:]]
    layer.zero_grad()
    return [state.detach() for state in states], errors


@pytest.mark.parametrize("squared", [False, True])
def test_the_paper_s_definition_for_an_elman_network(squared):
    """(dE/ds_{k+1}) diag(1 - s_{k+1}^2) W, with W in the graph and all else out of it."""
    layer = layer_of(CELLS["Elman"], 3, 5, backend="auto")
    x, target = random(4, 6, 3), random(4, 6, 5, seed=1)
    states, errors = elman(layer, x, target)
    ratio = torch.stack(
        [
            ((error * (1 - state**2)) @ layer.weight_hh).norm(dim=1) / error.norm(dim=1)
            for state, error in zip(states[1:], errors, strict=True)
        ],
        1,
    )
    expected = summed(ratio, squared)
    by_matrix = torch.autograd.grad(expected, layer.weight_hh)[0]
    given = Omega(0.5, squared=squared)
    torch.testing.assert_close(given.value(layer, x, target, mse), expected.detach())
    found = given.gradients(layer, x, target, mse)
    assert found.keys() == {"weight_hh"}
    torch.testing.assert_close(found["weight_hh"], 0.5 * by_matrix, rtol=1e-10, atol=1e-13)


def lstm_sent_back(layer, x, target):
    """What sends the errors of (h, c) back through one step each, as a function of W; and them."""
    h = c = x.new_zeros(len(x), layer.hidden_size)
    steps = []
    for t in range(x.shape[1]):
        before = c
        net = x[:, t] @ layer.weight_ih.T + h @ layer.weight_hh.T + layer.bias
        i, f, g, o = net.chunk(4, 1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        inside = f * c + i * g
        h, c = o * inside.tanh(), inside.clone()  # the error of c alone, h being held
        h.retain_grad()
        c.retain_grad()
        steps.append((before, i, f, g, o, inside, h, c))
    mse(torch.stack([step[-2] for step in steps], 1), target).backward()
    errors = []
    for before, i, f, g, o, inside, h, c in steps:
        d_h = h.grad
        d_c = torch.zeros_like(h) if c.grad is None else c.grad
        d_in = d_c + d_h * o * (1 - inside.tanh() ** 2)
        d_net = (
            d_in * g * i * (1 - i),
            d_in * before * f * (1 - f),
            d_in * i * (1 - g**2),
            d_h * inside.tanh() * o * (1 - o),
        )
        errors.append((torch.cat([d_h, d_c], 1), torch.cat(d_net, 1).detach(), (d_in * f).detach()))

    def sent(matrix):
        return [torch.cat([d_net @ matrix, d_c], 1) for _, d_net, d_c in errors]

    return sent, [error for error, _, _ in errors]


def gru_sent_back(layer, x, target):
    h, steps = x.new_zeros(len(x), layer.hidden_size), []
    for t in range(x.shape[1]):
        before = h
        from_x = (x[:, t] @ layer.weight_ih.T + layer.bias).chunk(3, 1)
        from_h = (h @ layer.weight_hh.T).chunk(3, 1)
        r, z = (from_x[0] + from_h[0]).sigmoid(), (from_x[1] + from_h[1]).sigmoid()
        inner = from_h[2] + layer.bias_hn
        n = (from_x[2] + r * inner).tanh()
        h = (1 - z) * n + z * h
        h.retain_grad()
        steps.append((before, r, z, n, inner, h))
    mse(torch.stack([step[-1] for step in steps], 1), target).backward()
    errors = []
    for before, r, z, n, inner, h in steps:
        d_n = h.grad * (1 - z) * (1 - n**2)
        d_net = (d_n * inner * r * (1 - r), h.grad * (before - n) * z * (1 - z), d_n * r)
        errors.append((h.grad, torch.cat(d_net, 1).detach(), (h.grad * z).detach()))

    def sent(matrix):
        return [d_net @ matrix + direct for _, d_net, direct in errors]

    return sent, [error for error, _, _ in errors]


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize(("name", "sent_back"), [("LSTM", lstm_sent_back), ("GRU", gru_sent_back)])
def test_gated_cells_against_finite_differences(name, sent_back, squared):
    """Every entry of W by central differences, with states, gates and errors frozen."""
    layer = layer_of(CELLS[name], 2, 3, backend="auto")
    x, target = random(3, 5, 2), random(3, 5, 3, seed=1)
    sent, errors = sent_back(layer, x, target)

    def by_hand(matrix):
        ratio = [u.norm(dim=1) / e.norm(dim=1) for u, e in zip(sent(matrix), errors, strict=True)]
        return summed(torch.stack(ratio, 1), squared)

    matrix = layer.weight_hh.detach().clone()
    given = Omega(squared=squared)
    torch.testing.assert_close(given.value(layer, x, target, mse), by_hand(matrix))
    expected = torch.zeros_like(matrix)
    for place in range(matrix.numel()):
        moved = torch.zeros(matrix.numel(), dtype=matrix.dtype)
        moved[place] = 1e-6
        moved = moved.view_as(matrix)
        expected.view(-1)[place] = (by_hand(matrix + moved) - by_hand(matrix - moved)) / 2e-6
    found = given.gradients(layer, x, target, mse)["weight_hh"]
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8 * scale)


@pytest.mark.every_cell
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ONE_STAGE if name not in ("Elman relu",)])
def test_the_ratio_of_any_cell_is_that_of_its_jacobian(name):
    """Against Jacobians of single steps of the reference backend, taken by autograd."""
    cell = CELLS[name]
    layer = layer_of(cell, 2, hidden_of(cell, 3), backend="reference")
    x, target = random(2, 4, 2), random(2, 4, layer.hidden_size, seed=1)
    count, total = len(layer.recurrence.states), x.new_zeros(())
    size = count * layer.hidden_size  # and one number more for t, which has no derivative
    sizes = [layer.hidden_size] * count + [1] * layer.recurrence.timed
    for n in range(2):
        joint = x.new_zeros(sum(sizes))
        visited, jacobians = [joint], []
        for t in range(4):

            def step(joint, t=t, n=n):
                state = [part.unsqueeze(0) for part in joint.split(sizes)]
                return torch.cat(layer(x[n : n + 1, t : t + 1], state)[1], 1).squeeze(0)

            jacobian = torch.autograd.functional.jacobian(step, joint)
            jacobians.append(jacobian[:size, :size])
            joint = step(joint).detach()
            visited.append(joint)
        delta = torch.zeros_like(joint[:size])
        output = layer.recurrence.states.index(layer.recurrence.output)
        place = slice(output * layer.hidden_size, (output + 1) * layer.hidden_size)
        for t in reversed(range(4)):
            h = visited[t + 1][place]
            delta = delta.clone()
            delta[place] += 2 * (h - target[n, t]) / target.numel()
            sent = jacobians[t].T @ delta
            total = total + (sent.norm() / delta.norm() - 1) ** 2 / 2
            delta = sent
    layer.backend = "auto"
    torch.testing.assert_close(Omega().value(layer, x, target, mse), total)


@pytest.mark.parametrize("squared", [False, True])
def test_an_orthogonal_linear_network_has_none(squared):
    layer = ll.Elman(3, 6, activation="identity", seed=0, dtype=torch.float64)
    x, target = random(4, 30, 3), random(4, 30, 6, seed=1)
    given = Omega(squared=squared)
    assert given.value(layer, x, target, mse) < 1e-24
    assert given.gradients(layer, x, target, mse)["weight_hh"].abs().max() < 1e-12
    with torch.no_grad():
        layer.weight_hh *= 0.5
    expected = (0.25 - 1) ** 2 if squared else 30 * (0.5 - 1) ** 2
    assert given.value(layer, x, target, mse).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "given", "updates"),
    [("Elman", Omega(0.2), 40), ("Elman", Omega(2.0, squared=True), 40),
     *(pytest.param(name, Omega(0.5), 100, marks=pytest.mark.long) for name in ("LSTM", "GRU"))],
)  # fmt: skip
def test_training_with_it_moves_the_ratio_to_one(name, given, updates):
    """From a start where the error vanishes; without it, training leaves the ratio where it is."""

    def far_from_one(method):
        layer = layer_of(CELLS[name], 2, 12, backend="auto")
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter *= 0.1
        model = ll.SequenceModel(layer, 1, reduce="last", seed=0)
        x, target = random(8, 20, 2), random(8, 1, seed=1)
        optimizer = torch.optim.SGD(model.parameters(), 0.02)
        found = []
        for _ in range(updates):
            found.append(Omega(squared=True).value(model, x, target, mse).item())
            optimizer.zero_grad()
            method.accumulate(model, x, target, mse, torch.Tensor.backward)
            optimizer.step()
        return found[-1] / found[0]

    assert far_from_one(given) < 0.25
    assert far_from_one(BPTT()) > 0.9


WITH_W = [
    kind
    for kind in MODELS
    if kind not in CELLS or (kind in ONE_STAGE and CELLS[kind].recurrence.wires)
]


def test_a_matrix_that_reads_a_new_value_is_refused():
    layer = layer_of(CELLS["LEM"], 2, 3, backend="auto")
    x, target = random(2, 5, 2), random(2, 5, 3, seed=1)
    for find in (Omega().value, Omega().gradients):
        with pytest.raises(ValueError, match=r"model: LEM multiplies a matrix with a new value"):
            find(layer, x, target, mse)


@pytest.mark.slow
@pytest.mark.parametrize("reduce", [None, "last", "mean"])
@pytest.mark.parametrize("kind", WITH_W)
def test_accumulate_adds_both_gradients_from_one_pass(kind, reduce):
    model = make(kind, reduce=reduce, direct=True)
    x, target, lengths, resets = problem(model, 7)
    options = {"lengths": lengths, "resets": resets}
    expected = BPTT().gradients(model, x, target, mse, **options)
    alone = Omega(3.0).gradients(model, x, target, mse, **options)
    matrices = {name for name, by in alone.items() if by.count_nonzero()}
    assert all(name.endswith(("weight_hh", "weight_hh_raw")) for name in matrices)
    assert all(p.grad is None for p in model.parameters())
    for name, by in alone.items():
        expected[name] = expected[name] + by
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    given = Omega(3.0)
    value, output, _ = given.accumulate(model, x, target, mse, torch.Tensor.backward, **options)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            parameter.grad - 1, expected[name], rtol=1e-10, atol=1e-12, msg=name
        )
    out = model(x, **options).detach()
    if reduce is None:
        torch.testing.assert_close(output, out, rtol=0, atol=1e-12)
    torch.testing.assert_close(value, mse(out, target), rtol=0, atol=1e-12)
    assert not value.requires_grad
    assert not output.requires_grad


def test_backends_and_pieces_of_time_agree(monkeypatch):
    model = make("stack")
    x, target, lengths, resets = problem(model, 9)
    options = {"lengths": lengths, "resets": resets}
    found = Omega().gradients(model, x, target, mse, **options)
    value = Omega(squared=True).value(model, x, target, mse, **options)
    monkeypatch.setattr(omega, "AT_ONCE", 2 * 3 * 16)
    for backend in ("cpu", "derived", "reference"):
        for layer in model.layer.layers:
            layer.backend = backend
        for name, by in Omega().gradients(model, x, target, mse, **options).items():
            torch.testing.assert_close(by, found[name], rtol=1e-10, atol=1e-12)
        again = Omega(squared=True).value(model, x, target, mse, **options)
        torch.testing.assert_close(again, value)


@pytest.mark.parametrize("squared", [False, True])
def test_a_batch_is_made_of_its_sequences(squared):
    """Padding, even NaN, does not count; the ratio does not depend on the loss's scale."""
    layer = layer_of(CELLS["GRU"], 2, 3, backend="auto")
    x, target = random(3, 6, 2), random(3, 6, 3, seed=1)
    lengths = torch.tensor([6, 2, 4])
    for n, length in enumerate(lengths):
        x[n, length:] = float("nan")

    def loss(output, target):
        return (output - target).square().sum()

    given = Omega(squared=squared)
    alone = []
    for n, length in enumerate(lengths):
        one = (layer, x[n : n + 1, :length], target[n : n + 1, :length], loss)
        alone.append((given.value(*one), given.gradients(*one)["weight_hh"]))
    shares = lengths / lengths.sum() if squared else torch.full((3,), 1 / 3)
    options = {"lengths": lengths}
    found = given.gradients(layer, x, target, loss, **options)["weight_hh"]
    value = given.value(layer, x, target, loss, **options)
    pairs = list(zip(shares.double(), alone, strict=True))
    within = {"rtol": 1e-6, "atol": 1e-9}
    torch.testing.assert_close(value, sum(share * one for share, (one, _) in pairs), **within)
    torch.testing.assert_close(found, sum(share * by for share, (_, by) in pairs), **within)


def test_no_term_crosses_a_reset():
    """With a reset at every step nothing is left; with one, two sequences end to end."""
    layer = layer_of(CELLS["Elman"], 2, 3, backend="auto")
    x, target = random(2, 6, 2), random(2, 6, 3, seed=1)
    resets = torch.ones(2, 6, dtype=torch.bool)
    assert Omega().value(layer, x, target, mse, resets=resets) == 0
    assert Omega().gradients(layer, x, target, mse, resets=resets)["weight_hh"].abs().max() == 0
    resets = torch.zeros(2, 6, dtype=torch.bool)
    resets[:, 2] = True
    found = Omega().value(layer, x, target, mse, resets=resets)
    parts = [Omega().value(layer, x[:, :2], target[:, :2], mse)]
    resets = torch.zeros(2, 4, dtype=torch.bool)
    resets[:, 0] = True
    parts.append(Omega().value(layer, x[:, 2:], target[:, 2:], mse, resets=resets))
    torch.testing.assert_close(found, sum(parts))


def test_each_layer_of_a_stack_has_its_own():
    model = make("stack")
    x, target, _, _ = problem(model, 6)
    both = Omega().gradients(model, x, target, mse)
    assert set(both) == {"layer.layers.0.weight_hh", "layer.layers.1.weight_hh"}
    lower, upper = model.layer.layers
    h = lower(x)[0].detach()
    model.layer = upper
    alone = Omega().gradients(model, h, target, mse)
    torch.testing.assert_close(alone["layer.weight_hh"], both["layer.layers.1.weight_hh"])
    model.layer = ll.Stack(lower, upper)
    upper.requires_grad_(False)
    assert set(Omega().gradients(model, x, target, mse)) == {"layer.layers.0.weight_hh"}


def test_replicas_are_networks_of_their_own():
    model = make("replicas")
    x, target, lengths, resets = problem(model, 6)
    options = {"lengths": lengths, "resets": resets}
    found = Omega(2.0).gradients(model, x, target, mse, **options)["layer.weight_hh"]
    value = Omega(2.0).value(model, x, target, mse, **options)
    total = torch.zeros(())
    for r in range(2):
        alone = make("GRU")
        with torch.no_grad():
            for own, all_of in zip(alone.parameters(), model.parameters(), strict=True):
                own.copy_(all_of[r])
        given = {"lengths": lengths[r], "resets": resets[r]}
        by = Omega(2.0).gradients(alone, x[r], target[r], mse, **given)["layer.weight_hh"]
        torch.testing.assert_close(found[r], by, rtol=1e-9, atol=1e-11)
        total = total + Omega().value(alone, x[r], target[r], mse, **given)
    torch.testing.assert_close(value, total)


@pytest.mark.parametrize("squared", [False, True])
def test_terms_below_the_floor_are_left_out(squared):
    """A linear network of one unit: delta_t = 3 w^(T - t), each term the same."""
    layer = ll.Elman(1, 1, activation="identity", bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight_hh.fill_(0.1)
    x = torch.ones(2, 8, 1, dtype=torch.float64)

    def loss(output, target):
        return 3 * output[:, -1].sum()

    term = (0.01 - 1) ** 2 if squared else (0.1 - 1) ** 2
    for floor, count in ((1e-20, 8), (10.0, 0), (9.0 * 1e-4 * 0.99, 3), (9.0 * 1e-4 * 1.01, 2)):
        given = Omega(squared=squared, floor=floor)
        # The squared form is an average over what counts.
        expected = (term if count else 0.0) if squared else count * term
        assert given.value(layer, x, x, loss).item() == pytest.approx(expected, rel=1e-9)
        slope = 4 * (0.01 - 1) * 0.1 if squared else 2 * (0.1 - 1)
        expected = (slope if count else 0.0) if squared else count * slope
        by = given.gradients(layer, x, x, loss)["weight_hh"]
        assert by.item() == pytest.approx(expected, rel=1e-9)


def test_errors_of_any_size_do_not_overflow():
    layer = ll.Elman(2, 4, activation="identity", seed=0)
    x = torch.ones(2, 20, 2)
    with torch.no_grad():
        layer.weight_hh *= 30.0
    found = Omega().gradients(layer, x, x, lambda output, _: output[:, -1].sum() * 1e8)
    assert found["weight_hh"].isfinite().all()
    value = Omega().value(layer, x, x, lambda output, _: output[:, -1].sum() * 1e8)
    assert value.item() == pytest.approx(20 * 29**2, rel=1e-4)


def test_what_no_error_passes_has_a_zero():
    layer = layer_of(CELLS["LSTM1997"], 2, 3, backend="auto")
    x, target = random(2, 5, 2), random(2, 5, 3, seed=1)
    assert Omega().gradients(layer, x, target, mse)["weight_hh"].count_nonzero() == 0
    zero = layer_of(CELLS["Elman"], 2, 3, backend="auto")
    with torch.no_grad():
        zero.weight_hh.zero_()
    assert Omega().value(zero, x, target, mse).item() == 5.0
    assert Omega().gradients(zero, x, target, mse)["weight_hh"].count_nonzero() == 0


def test_truncated_matrices_are_not_moved_though_error_passes_beside_them():
    layer = layer_of(CELLS["Mixed"], 2, 3, backend="auto")
    x, target = random(2, 5, 2), random(2, 5, 3, seed=1)
    by = Omega().gradients(layer, x, target, mse)["weight_hh"]
    wires = layer.recurrence.wires
    assert sorted(wire.truncated for wire in wires) == [False, False, True]
    for wire, rows in zip(wires, by.split(3), strict=True):
        assert (rows.abs().max() > 1e-6) == (not wire.truncated)


def test_what_a_pattern_leaves_out_is_not_moved():
    layer = layer_of(CELLS["Blocks"], 2, 6, backend="auto")
    x, target = random(2, 5, 2), random(2, 5, 6, seed=1)
    by = Omega().gradients(layer, x, target, mse)["weight_hh"]
    below = torch.ones(3, 3).tril(-1).bool().repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert (by[below] == 0).all()
    assert (by[~below] != 0).all()


def test_the_weight_decays_where_it_is_told_to():
    model = make("GRU")
    x, target, _, _ = problem(model, 5)
    constant = Omega(2.0).gradients(model, x, target, mse)["layer.weight_hh"]
    given = Omega(8.0, decay="1/t")
    fourth = given.gradients(model, x, target, mse, update=4)["layer.weight_hh"]
    assert torch.equal(fourth, constant)
    given.accumulate(model, x, target, mse, torch.Tensor.backward, update=4)
    plain = BPTT().gradients(model, x, target, mse)["layer.weight_hh"]
    torch.testing.assert_close(model.layer.weight_hh.grad, plain + constant)
    with pytest.raises(ValueError, match=r"update: not given, but with decay='1/t'"):
        given.gradients(model, x, target, mse)
    with pytest.raises(ValueError, match=r"update: got 0, expected at least 1"):
        given.accumulate(model, x, target, mse, torch.Tensor.backward, update=0)
    with pytest.raises(TypeError, match=r"update: got 1.5"):
        given.weight_at(1.5)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("batch", "steps"), [(0, 4), (3, 0)])
@pytest.mark.parametrize("squared", [False, True])
def test_nothing_to_read(batch, steps, squared):
    layer = layer_of(CELLS["LSTM"], 2, 3, backend="auto")
    x = torch.ones(batch, steps, 2, dtype=torch.float64)

    def loss(output, target):
        return output.sum()

    assert Omega(squared=squared).value(layer, x, x, loss) == 0
    by = Omega(squared=squared).gradients(layer, x, x, loss)["weight_hh"]
    assert by.shape == (12, 3)
    assert by.count_nonzero() == 0


def test_an_error_that_is_no_number_is_not_passed_over():
    layer = layer_of(CELLS["Elman"], 2, 3, backend="auto")
    x = random(2, 5, 2)
    assert Omega().value(layer, x, x, lambda output, _: output.sum() * float("nan")).isnan()


def test_networks_without_a_matrix_are_refused():
    model = make("IndRNN")
    x, target, _, _ = problem(model, 5)
    assert Omega().value(model, x, target, mse) > 0
    for call in (
        lambda: Omega().gradients(model, x, target, mse),
        lambda: Omega().accumulate(model, x, target, mse, torch.Tensor.backward),
    ):
        with pytest.raises(ValueError, match=r"model: no layer has a recurrent matrix W"):
            call()


def test_dropout_is_refused():
    layer = ll.Elman(2, 3, recurrent_dropout=0.5)
    x = torch.ones(2, 4, 2)
    with pytest.raises(ValueError, match="Omega reads the steps twice"):
        Omega().value(layer, x, torch.ones(2, 4, 3), mse)
    assert Omega().value(layer.eval(), x, torch.ones(2, 4, 3), mse).isfinite()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"weight": -1.0}, ValueError, r"weight: got -1.0, expected a finite number >= 0"),
        ({"weight": math.nan}, ValueError, r"weight: got nan"),
        ({"weight": "4"}, TypeError, r"weight: got '4', expected a number"),
        ({"floor": 0.0}, ValueError, r"floor: got 0.0, expected a finite number > 0"),
        ({"decay": "t"}, ValueError, r"decay: got 't', expected None or '1/t'"),
    ],
)
def test_bad_settings(options, error, message):
    with pytest.raises(error, match=message):
        Omega(**options)


def test_it_is_a_frozen_value_that_trains_as_a_method_does():
    assert isinstance(Omega(), GradientMethod)
    assert Omega() == Omega()
    assert repr(Omega(4.0)) == "Omega(weight=4.0, squared=False, floor=1e-20, decay=None)"
