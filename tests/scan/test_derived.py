import pytest
import torch
from tests.scan import cases

import longlag as ll
from longlag.scan import derived

CELLS = pytest.mark.parametrize("cell", cases.CELLS.values(), ids=cases.CELLS)


def schedule_of(front, steps):
    generator = torch.Generator().manual_seed(8)
    return {
        "lengths": torch.randint(0, steps + 1, front, generator=generator),
        "resets": torch.rand(*front, steps, generator=generator) < 0.2,
    }


@pytest.mark.every_cell
@pytest.mark.slow
@CELLS
@pytest.mark.parametrize("front", [(3,), (2, 3)])
def test_blocks_of_any_size_equal_one_block(cell, front, monkeypatch):
    """A block of 1 step, of some, and of more than there are."""
    hidden = cases.hidden_of(cell, 4)
    layer = cases.layer_of(cell, 2, hidden, replicas=None if len(front) == 1 else 2)
    x, schedule = cases.random(*front, 11, 2), schedule_of(front, 11)
    state = cases.states_of(cell, front, hidden)
    whole = cases.run(layer, x, state, **schedule)
    numbers = len(cell.recurrence.drive_symbols) * x[..., 0, 0].numel() * hidden
    sizes = set()
    add = derived._Backward._block

    def counted(self, block, *arguments):
        sizes.add(block.stop - block.start)
        return add(self, block, *arguments)

    monkeypatch.setattr(derived._Backward, "_block", counted)
    for steps, expected in ((1, {1}), (3, {3, 2}), (5, {5, 1}), (10, {10, 1}), (40, {11})):
        monkeypatch.setattr(derived, "BLOCK", steps * numbers)
        sizes.clear()
        cases.assert_same(cases.run(layer, x, state, **schedule), whole)
        assert sizes == expected
    monkeypatch.setattr(derived, "BLOCK", 0)
    cases.assert_same(cases.run(layer, x, state, **schedule), whole)


@pytest.mark.every_cell
@pytest.mark.slow
@CELLS
def test_gradients_of_windows_that_carry_a_state_may_be_differentiated_again(cell):
    """The weights reach the second window by its initial state too; that is counted once."""
    results = []
    for backend in cases.BACKENDS:
        layer = cases.layer_of(cell, 2, cases.hidden_of(cell, 3), backend=backend)
        parameters = list(layer.parameters())
        x = cases.random(2, 6, 2).requires_grad_()
        first, state = layer(x[:, :3])
        second, state = layer(x[:, 3:], state)
        loss = (first.square().sum() + (second * cases.random(*second.shape, seed=4)).sum()) + sum(
            part.square().sum() for part in state
        )
        plain = torch.autograd.grad(loss, [x, *parameters], retain_graph=True)
        once = torch.autograd.grad(loss, [x, *parameters], create_graph=True)
        for mine, theirs in zip(once, plain, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
        again = torch.autograd.grad(sum(g.square().sum() for g in once), [x, *parameters])
        results.append([*once, *again])
    for theirs, *ours in zip(*results, strict=True):
        for mine in ours:
            torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("create_graph", [False, True])
def test_one_tensor_given_as_both_states(create_graph):
    gradients = []
    for backend in cases.BACKENDS:
        layer = cases.layer_of(ll.cells.LSTM(), 2, 3, backend=backend)
        z = cases.random(2, 3, seed=3).requires_grad_()
        output, _ = layer(cases.random(2, 4, 2), (z, z))
        gradients += torch.autograd.grad(output.square().sum(), z, create_graph=create_graph)
    for mine in gradients[1:]:
        torch.testing.assert_close(mine, gradients[0], rtol=1e-12, atol=1e-13)


@pytest.mark.every_cell
@pytest.mark.slow
@CELLS
def test_only_the_gradients_that_are_wanted_are_given(cell):
    for frozen in dict(cases.layer_of(cell, 2, cases.hidden_of(cell, 3)).named_parameters()):
        gradients = []
        for backend in cases.BACKENDS:
            layer = cases.layer_of(cell, 2, cases.hidden_of(cell, 3), backend=backend)
            getattr(layer, frozen).requires_grad_(False)
            output, state = layer(cases.random(2, 4, 2))
            (output.sum() + state[-1].square().sum()).backward()
            gradients.append({name: p.grad for name, p in layer.named_parameters()})
        for ours in gradients[1:]:
            assert ours[frozen] is None
            for name, gradient in gradients[0].items():
                if gradient is not None:
                    torch.testing.assert_close(ours[name], gradient, rtol=1e-12, atol=1e-13)


@pytest.mark.slow
@CELLS
def test_a_result_that_the_loss_leaves_out_sends_nothing_back(cell):
    for last in (False, True):
        gradients = []
        for backend in cases.BACKENDS:
            layer = cases.layer_of(cell, 2, cases.hidden_of(cell, 3), backend=backend)
            output, state = layer(cases.random(2, 4, 2))
            number = len(layer.recurrence.states) - 1
            loss = state[number].square().sum() if last else output[:, 1].square().sum()
            gradients.append(torch.autograd.grad(loss, layer.weight_ih)[0])
        assert gradients[0].count_nonzero() > 0
        for mine in gradients[1:]:
            torch.testing.assert_close(mine, gradients[0], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("backend", ["derived", "cpu"])
def test_it_keeps_the_states_and_not_the_gates(backend):
    """Kept for the backward pass: the drive or as many activations, matrix, states; no gate."""
    n, t, h = 4, 50, 8
    kept = []

    def pack(tensor):
        kept.append((tensor.untyped_storage().data_ptr(), tensor.numel()))
        return tensor

    layer = cases.layer_of(ll.cells.LSTM(), 2, h, backend=backend)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(cases.random(n, t, 2))
    numbers = sum(dict(kept).values())
    drive, states, weights = t * n * 4 * h, 2 * (t + 1) * n * h, 4 * h * (h + 2)
    assert numbers <= drive + states + weights + 2 * n * h + n * t * 2


@pytest.mark.parametrize("backend", ["derived", "cpu"])
def test_without_gradients_nothing_is_kept(backend):
    layer = cases.layer_of(ll.cells.GRU(), 2, 3, backend=backend)
    with torch.no_grad():
        output, state = layer(cases.random(2, 4, 2))
    assert output.grad_fn is None
    assert state.h.grad_fn is None
    torch.testing.assert_close(output, layer(cases.random(2, 4, 2))[0])


@pytest.mark.parametrize("backend", ["derived", "cpu"])
@pytest.mark.parametrize("changed", ["weight", "output"])
def test_what_changed_since_the_forward_pass_is_an_error(backend, changed):
    layer = cases.layer_of(ll.cells.GRU(), 2, 3, backend=backend)
    output, _ = layer(cases.random(2, 4, 2))
    with torch.no_grad():
        (layer.weight_hh if changed == "weight" else output.detach()).mul_(2.0)
    with pytest.raises(RuntimeError, match=r"modified (by an )?inplace"):
        output.sum().backward()
