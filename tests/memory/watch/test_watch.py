"""watch: what it measures of modules of torch.nn, against automatic differentiation; no traces."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from tests.memory.brute import assert_relative, step_jacobians
from torch import nn
from torch.autograd.functional import jacobian
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

import longlag as ll
from longlag.layers.inputs import Inputs
from longlag.memory import jacobian_norms, spectral_facts
from longlag.memory.measures import parts
from longlag.memory.measures.flow import product
from longlag.memory.watch import torch_layout

KINDS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}
DOUBLE = {"dtype": torch.float64}
C, H, T, N = 2, 3, 6, 3


def net(kind="LSTM", **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = KINDS[kind](C, H, **{"batch_first": True, **options}, **DOUBLE)
        # Larger than the usual, so that errors are far above rounding after some steps.
        for parameter in module.parameters():
            nn.init.uniform_(parameter, -1.0, 1.0)
    return module


def sequences(*shape):
    return torch.randn(*(shape or (N, T, C)), generator=torch.Generator().manual_seed(1), **DOUBLE)


def states_of(module, x):
    """x (T, C) of one sequence and what it starts from: a list of states (L H), or (L 2 H)."""

    def step(joint, row):
        parts = joint.view(-1, module.num_layers, H).split(1)
        hx = tuple(part.reshape(module.num_layers, 1, H) for part in parts)
        _, after = module(row.view(1, 1, C), hx if isinstance(module, nn.LSTM) else hx[0])
        after = after if isinstance(after, tuple) else (after,)
        return torch.cat([part.reshape(-1) for part in after])

    return step


def brute(module, x, state=None):
    """(T, S, S) of one sequence, states by layer as longlag has them."""
    step = states_of(module, x)
    count = 2 if isinstance(module, nn.LSTM) else 1
    joint = x.new_zeros(count * module.num_layers * H) if state is None else state
    # Of torch all h stand before all c; here the states of each layer stand together.
    order = torch.arange(len(joint)).view(count, module.num_layers, H).transpose(0, 1).reshape(-1)
    found = []
    for row in x:
        one = jacobian(lambda j, row=row: step(j, row), joint)
        found.append(one[order][:, order])
        joint = step(joint, row).detach()
    return torch.stack(found)


def begin_of(kind, begin, n):
    return tuple(part[:, n : n + 1] for part in begin) if kind == "LSTM" else begin[:, n : n + 1]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_jacobians_are_those_of_autograd(kind, layers):
    module, x = net(kind, num_layers=layers), sequences()
    with ll.watch(nn.ModuleDict({"core": module})) as watched:
        module(x)
    found = watched["core"].jacobians()
    assert_relative(found, torch.stack([brute(module, each) for each in x]))
    norms = watched["core"].norms(sample="ends").largest.values
    product = torch.eye(found.shape[-1], **DOUBLE).expand(N, -1, -1)
    for lag in range(T + 1):
        assert_relative(norms[:, lag], torch.linalg.matrix_norm(product, 2).log())
        if lag < T:
            product = product @ found[:, T - 1 - lag]


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["time first", "alone", "packed", "unsorted", "given state"])
@pytest.mark.parametrize("kind", KINDS)
def test_any_layout_is_read_alike(kind, layout):
    """Jacobians, and the error's way, of each sequence for itself."""
    module, x, lengths = net(kind, num_layers=2), sequences(), [T] * N
    h = sequences(2, N, H)
    begin = (h, -h) if kind == "LSTM" else h
    state, given = None, x
    if layout == "time first":
        module.batch_first, given = False, x.transpose(0, 1)
    elif layout == "alone":
        x, lengths, given = x[:1], [T], x[0]
    elif layout == "packed":
        lengths = [6, 4, 1]
        given = pack_padded_sequence(x, torch.tensor(lengths), batch_first=True)
    elif layout == "unsorted":
        lengths, state = [3, 6, 2], begin
        given = pack_sequence(
            [x[n, :length] for n, length in enumerate(lengths)], enforce_sorted=False
        )
    else:
        state = begin
    with ll.watch(module) as watched:
        output, _ = module(given) if state is None else module(given, hx=state)
        flat = output if isinstance(output, torch.Tensor) else output.data
        weight = torch.linspace(0.5, 1.5, flat.numel(), **DOUBLE).view(flat.shape)
        (flat * weight).sum().backward()
    one = watched[""]
    error = weight
    if layout in ("packed", "unsorted"):
        error, _ = pad_packed_sequence(output._replace(data=weight), batch_first=True)
        assert one.lengths.tolist() == lengths
    elif layout == "alone":
        error = weight.unsqueeze(0)
    elif layout == "time first":
        error = weight.transpose(0, 1)
    torch.testing.assert_close(one.gradient, error, rtol=0, atol=0)
    read, found, flow = one.x, one.jacobians(), one.flow()
    assert flow.step == -1
    module.batch_first = True
    for n, length in enumerate(lengths):
        torch.testing.assert_close(read[n, :length], x[n, :length], rtol=0, atol=0)
        own = None
        if state is not None:
            own = torch.cat([part[:, n].reshape(-1) for part in (begin if kind == "LSTM" else [h])])
        expected = brute(module, x[n, :length], own)
        assert_relative(found[n, :length], expected)
        assert not found[n, length:].any()
        # The error of the last output, back through the states of the top layer, which stand last.
        count = 2 if kind == "LSTM" else 1
        delta = torch.zeros(2 * count * H, **DOUBLE)
        delta[count * H : count * H + H] = error[n, length - 1]
        for s in range(length, -1, -1):
            assert_relative(flow.layers[1].by_step[n, s], delta[count * H :].norm())
            delta = delta @ expected[s - 1] if s else delta
        reader = ll.from_torch(module)
        begin_n = (
            torch_layout.nested_state(begin_of(kind, begin, n), module)
            if state is not None
            else None
        )
        alone = ll.memory.error_flow(
            reader, x[n : n + 1, :length], error[n : n + 1, :length], product, state=begin_n
        )
        assert_relative(flow.layers[0].by_step[n, : length + 1], alone.layers[0].by_step[0])


@pytest.mark.slow
@pytest.mark.parametrize("read", ["last", "h_n", "inner", "each", "both"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_error_of_the_last_step_that_has_one(kind, bidirectional, read):
    module, x = net(kind, bidirectional=bidirectional), sequences()
    with ll.watch(module) as watched:
        output, state = module(x)
        h = state[0] if kind == "LSTM" else state
        ends = {
            "last": lambda: output[:, -1].square().sum(),
            "h_n": lambda: h.square().sum(),
            "inner": lambda: output[:, 2].square().sum(),
            "each": lambda: output.square().sum(),
            "both": lambda: output[:, -1].sum() + 2 * h.sum(),
        }
        ends[read]().backward()
    error = torch.zeros(N, T, H, **DOUBLE)
    ahead = output.detach()[..., :H]
    if read in ("last", "h_n"):
        error[:, -1] = 2 * ahead[:, -1]
    elif read == "inner":
        error[:, 2] = 2 * ahead[:, 2]
    elif read == "each":
        error = 2 * ahead
    else:
        error[:, -1] = 3.0
    torch.testing.assert_close(watched[""].gradient[..., :H], error)
    flow = watched[""].flow()
    # Read backward, step 2 of 6 is the fourth: two before its end, one nearer than forward.
    step = -1 if read != "inner" else -3 if bidirectional else -4
    assert flow.step == step
    forward = module if not bidirectional else ll.from_torch(module).forward_layer.to_torch()
    jacobians = torch.stack([brute(forward, each) for each in x])
    delta = torch.zeros(N, jacobians.shape[-1], **DOUBLE)
    delta[:, :H] = error[:, T + step]
    for lag in range(T + step + 1):
        expected = delta.norm() if bool(delta.any()) else delta.new_zeros(())
        torch.testing.assert_close(flow.layers[0].by_lag[lag], expected)
        delta = torch.einsum("ni,nij->nj", delta, jacobians[:, T + step - lag])
    if bidirectional and read == "h_n":
        # The backward direction has read all of x at its first step.
        backward = watched[""].gradient[..., H:]
        torch.testing.assert_close(backward[:, 0], 2 * output.detach()[:, 0, H:])
        assert not backward[:, 1:].any()


def test_an_error_that_enters_elsewhere_is_refused():
    for bad in (lambda o, h, c: c.sum(), lambda o, h, c: o.sum() + h[0].sum()):
        module = net(num_layers=2)
        watched = ll.watch(module)
        output, (h, c) = module(sequences())
        bad(output, h, c).backward()
        with pytest.raises(ValueError, match=r"LSTM: part of the error entered by .*c_n"):
            watched[""].flow()
        assert watched[""].norms().size == 12


def test_several_layers_in_both_directions_each_for_itself():
    module, x = net("GRU", num_layers=2, bidirectional=True), sequences()
    lengths = torch.tensor([6, 2, 4])
    with ll.watch(module) as watched:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        output, _ = module(packed, sequences(4, N, H))
        padded, _ = pad_packed_sequence(output, batch_first=True)
        padded[:, 1].square().sum().backward()
    reader = ll.from_torch(module)
    hx = sequences(4, N, H)
    low, high = reader.layers
    middle = low(x, (hx[0], hx[1]), lengths=lengths)[0].detach().requires_grad_()
    top = high(middle, (hx[2], hx[3]), lengths=lengths)[0]
    top[:, 1].square().sum().backward()
    one = watched[""]
    norms, jacobians = one.norms(), one.jacobians()
    assert list(norms) == list(jacobians) == ["layers.0", "layers.1"]
    expected = ll.state_jacobians(
        high, middle.detach(), state=(hx[2], hx[3]), lengths=lengths
    ).backward
    torch.testing.assert_close(jacobians["layers.1"].backward, expected)
    assert norms["layers.0"].forward.largest.mean.shape == (T + 1,)
    flow = one.flow()
    assert [each.layer for each in flow.layers] == [
        f"layers.{n}.{way}_layer" for n in (0, 1) for way in ("forward", "backward")
    ]
    lower = parts.Part("", low, Inputs(x, lengths, None, (hx[0], hx[1])), middle.grad)
    expected = parts.flow_of(lower, -1).layers
    torch.testing.assert_close(flow.layers[0].by_step, expected[0].by_step)
    torch.testing.assert_close(flow.layers[1].by_lag, expected[1].by_lag)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["layer", "stack", "both", "dropped"])
def test_modules_of_longlag(kind):
    layer = {
        "layer": lambda: ll.LSTM1997(C, 4, seed=0, **DOUBLE),
        "stack": lambda: ll.Stack(ll.LSTM(C, 3, seed=0, **DOUBLE), ll.GRU(3, 2, seed=1, **DOUBLE)),
        "both": lambda: ll.Bidirectional(ll.Leaky(C, 3, seed=0, **DOUBLE), seed=2),
        "dropped": lambda: ll.Elman(C, 3, recurrent_dropout=0.5, seed=0, **DOUBLE),
    }[kind]()
    model = ll.SequenceModel(layer, 1, reduce="last", seed=3).train()
    x, lengths = sequences(), torch.tensor([6, 3, 5])
    target = torch.ones(N, 1, **DOUBLE)
    mse = nn.functional.mse_loss
    with ll.watch(model) as watched:
        assert watched.names == ("layer",)
        mse(model(x, lengths=lengths), target).backward()
    assert layer.training
    layer.eval()
    mine, given = watched["layer"], {"lengths": lengths}
    for found, expected in (
        (mine.norms(), jacobian_norms(layer, x, **given)),
        (mine.jacobians(), ll.state_jacobians(layer, x, **given)),
    ):
        pairs = zip(found, expected, strict=True) if kind == "both" else [(found, expected)]
        for ours, theirs in pairs:
            ours, theirs = (
                (getattr(each, "largest", None) for each in (ours, theirs))
                if (not isinstance(ours, torch.Tensor))
                else (ours, theirs)
            )
            torch.testing.assert_close(
                getattr(ours, "values", ours) if not isinstance(ours, torch.Tensor) else ours,
                getattr(theirs, "values", theirs) if not isinstance(theirs, torch.Tensor)
                else theirs,
                equal_nan=True,
            )  # fmt: skip
    if kind == "dropped":  # the error was that of another network, with units dropped
        return
    expected = ll.memory.error_flow(model, x, target, mse, **given)
    for ours, theirs in zip(mine.flow().layers, expected.layers, strict=True):
        torch.testing.assert_close(ours.by_lag, theirs.by_lag)
        assert f"layer.{ours.layer}".rstrip(".") == theirs.layer


@pytest.mark.parametrize("reads", ["output", "state"])
def test_the_state_of_longlag_counts_as_its_last_output(reads):
    layer, x = ll.LSTM(C, H, seed=0, **DOUBLE), sequences()
    lengths = torch.tensor([6, 0, 5])
    watched = ll.watch(layer)
    output, state = layer(x, lengths=lengths)
    last = ll.layers.base.take_last(output, lengths) if reads == "output" else state.h
    last.square().sum().backward()
    error = watched[""].gradient
    torch.testing.assert_close(error[0, 5], 2 * output[0, 5].detach())
    torch.testing.assert_close(error[2, 4], 2 * output[2, 4].detach())
    assert int((error != 0).sum()) == 2 * H


def test_facts_are_of_the_present_weights():
    module = net("RNN", num_layers=2, bidirectional=True)
    watched = ll.watch(module)
    with torch.no_grad():
        module.weight_hh_l1_reverse.mul_(2)
    facts = watched[""].facts()
    assert len(facts) == 4
    mine = facts["layers.1.backward_layer"].matrices["candidate"].norm
    expected = torch.linalg.matrix_norm(module.weight_hh_l1_reverse, 2)
    torch.testing.assert_close(mine, expected.detach())
    one = ll.Elman(C, H, seed=0)
    with torch.no_grad():
        assert ll.watch(one)[""].facts()[""].matrices == spectral_facts(one).matrices


def test_the_report_is_of_the_error_that_was_seen():
    module, x = net("GRU"), sequences()
    watched = ll.watch(module)
    module(x)[0][:, -1].square().sum().backward()
    module(sequences(1, 4, C))
    report = watched[""].report(exponents=1)
    assert (report.sequences, report.steps) == (N, T)
    torch.testing.assert_close(report.flow.layers[0].by_lag, watched[""].flow().layers[0].by_lag)
    assert watched[""].report(gradient=False, exponents=1).steps == 4
    module(x)[0][:, 1].square().sum().backward()  # the last error is not at the end
    inner = watched[""].report(exponents=1)
    torch.testing.assert_close(inner.flow.layers[0].by_lag, watched[""].flow().layers[0].by_lag)
    assert inner.of_loss
    assert float(inner.flow.layers[0].by_lag[0]) > 0
    fresh = ll.watch(module)
    module(x)
    assert fresh[""].report(exponents=1).steps == T
    with pytest.raises(ValueError, match="GRU: gradient=True, and none has been seen"):
        fresh[""].report(gradient=True)


def test_the_report_of_layers_both_ways_is_one():
    module, x = net("GRU", num_layers=2, bidirectional=True), sequences()
    watched = ll.watch(module)
    module(x)[0][:, -1].square().sum().backward()
    report = watched[""].report(exponents=0)
    assert isinstance(report, ll.MemoryReport)
    flow = watched[""].flow()
    assert [layer.layer for layer in report.flow.layers] == [each.layer for each in flow.layers]
    for mine, theirs in zip(report.flow.layers, flow.layers, strict=True):
        torch.testing.assert_close(mine.by_lag, theirs.by_lag)
    assert str(report).count("Memory horizon") == 1


class Net(nn.Module):
    """Two recurrent modules, dropout, a readout."""

    def __init__(self):
        super().__init__()
        self.below = nn.GRU(C, H, num_layers=2, dropout=0.3, batch_first=True)
        self.inner = nn.ModuleDict({"above": ll.Stack(ll.LSTM(H, 4, seed=0), dropout=0.2)})
        self.readout = nn.Linear(4, 1)

    def forward(self, x):
        return self.readout(self.inner["above"](self.below(x)[0])[0])


def trained(watching):
    """Outputs, gradients and random state after three updates, looked into or not."""
    torch.manual_seed(3)
    model = Net()
    optimizer, found = torch.optim.SGD(model.parameters(), 0.1), []
    watched = ll.watch(model) if watching else None
    for _ in range(3):
        output = model(torch.randn(4, 7, C))
        optimizer.zero_grad()
        output.square().mean().backward()
        found += [output.detach(), *[p.grad.clone() for p in model.parameters()]]
        optimizer.step()
        if watched is not None:
            for each in watched.values():
                each.norms(), each.jacobians(), each.flow(), each.facts()
    return [*found, *model.parameters(), torch.get_rng_state()], model


@pytest.mark.slow
def test_nothing_of_the_numbers_changes():
    without, _ = trained(False)
    looked_into, model = trained(True)
    assert all(torch.equal(a, b) for a, b in zip(without, looked_into, strict=True))
    assert all(module.training for module in model.modules())
    assert ll.watch(model).names == ("below", "inner.above")


def test_the_last_backward_pass_counts_and_not_a_later_look():
    module, x = net("RNN"), sequences()
    watched = ll.watch(module)
    with pytest.raises(ValueError, match="RNN: has read nothing since"):
        watched[""].norms()
    first = module(x)[0]
    with pytest.raises(ValueError, match=r"RNN: no gradient of its output has been seen; .*loss"):
        watched[""].flow()
    assert watched[""].gradient is None
    loss = first[:, -1].sum()
    loss.backward(retain_graph=True)
    loss.backward()
    with torch.no_grad():
        module(x[:, :2])
    assert watched[""].x.shape == (N, 2, C)
    error = watched[""].gradient
    assert error.shape == (N, T, H)
    assert float(error.sum()) == N * H  # of the last pass, not of both together
    output, h = module(x)
    output[:, 2].sum().backward(retain_graph=True)
    (3 * h).sum().backward()  # by h_n alone: what came by the output is of another pass
    assert float(watched[""].gradient.sum()) == 3 * N * H


def test_recomputed_passes_give_their_gradient():
    module, x = net("GRU"), sequences()
    watched = ll.watch(module)
    output = torch.utils.checkpoint.checkpoint(
        lambda x: module(x)[0].tanh(), x.requires_grad_(), use_reentrant=False
    )
    output.sum().backward()
    expected = 1 - output.detach().square()
    torch.testing.assert_close(watched[""].gradient, expected)


def test_what_was_changed_in_place_is_refused():
    module, x = net(), sequences()
    watched = ll.watch(module)
    module(x)
    x.zero_()
    with pytest.raises(ValueError, match="LSTM: what it read has been changed in place"):
        watched[""].norms()
    with torch.inference_mode():
        module(sequences())
    assert watched[""].norms().size == 2 * H


def test_other_precisions_and_autocast():
    module = nn.GRU(C, H, batch_first=True, dtype=torch.bfloat16)
    watched = ll.watch(module)
    module(torch.ones(2, 5, C, dtype=torch.bfloat16))[0].sum().backward()
    assert watched[""].norms().largest.mean.isfinite().all()
    assert watched[""].flow().layers[0].by_lag.dtype == torch.float32
    layer = ll.GRU(C, H, seed=0, dtype=torch.bfloat16)
    watched = ll.watch(layer)
    layer(torch.ones(2, 5, C, dtype=torch.bfloat16))
    assert watched[""].norms().largest.mean.isfinite().all()
    assert layer.weight_ih.dtype == torch.bfloat16


@pytest.mark.slow
def test_transformed_and_traced_passes_leave_nothing():
    layer, x = ll.Elman(C, H, seed=0), torch.ones(N, T, C)
    watched = ll.watch(layer)
    torch.func.grad(lambda x: layer(x)[0].sum())(x)
    with pytest.raises(ValueError, match="has read nothing"):
        watched[""].norms()

    class Plain(ll.Elman):
        def forward(self, x):  # the scan has its annotations executed here, which no graph can hold
            return x @ self.weight_ih.mT, ()

    plain = Plain(C, H)
    compiled = ll.watch(plain)
    torch.compile(plain, backend="eager", fullgraph=True)(x)
    with pytest.raises(ValueError, match=r"Passes inside torch\.compile"):
        compiled[""].norms()
    plain(x)
    assert compiled[""].x.shape == (N, T, C)
    module = nn.GRU(C, H, batch_first=True)
    watched = ll.watch(module)
    meta = copy.deepcopy(module).to("meta")
    meta(x.to("meta"))
    ll.watch(meta)
    meta(x.to("meta"))
    with pytest.raises(ValueError, match="has read nothing"):
        watched[""].norms()


def test_copies_are_not_watched():
    module, x = net(), sequences()
    watched = ll.watch(module)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):  # noqa: S301
        other(x)
        with pytest.raises(ValueError, match="has read nothing"):
            watched[""].norms()
    module(x)
    assert watched[""].norms().size == 2 * H


def test_closing_and_garbage():
    module, x = net(), sequences()
    with ll.watch(module) as watched:
        module(x)
    assert watched.closed
    watched.close()
    assert not module._forward_hooks
    module(x[:1])[0].sum().backward()
    assert watched[""].x.shape[0] == N
    assert repr(watched) == "Watch('', closed)"

    gc.disable()
    try:
        one = ll.watch(module)[""]  # nothing refers to the watch
        assert not module._forward_hooks
        kept = ll.watch(module)
        output = module(x)[0]
        output.sum().backward()
        gone, one = weakref.ref(module), kept[""]
        graph = weakref.ref(kept[""]._last)
        del module, output
        assert gone() is None  # without a cycle to collect
        with pytest.raises(ValueError, match="the watched model is gone"):
            one.norms()
        del one, kept
        assert graph() is None
    finally:
        gc.enable()


def test_what_is_refused():
    with pytest.raises(TypeError, match=r"model: got int, expected a torch\.nn\.Module"):
        ll.watch(3)
    with pytest.raises(
        ValueError, match="found no recurrent module in Sequential, which is made of Linear, Tanh;"
    ):
        ll.watch(nn.Sequential(nn.Linear(1, 1), nn.Tanh()))
    with pytest.raises(ValueError, match="LSTM: got an LSTM with proj_size=2, expected 0"):
        ll.watch(nn.LSTM(2, 3, proj_size=2))
    model = nn.ModuleDict({"a": nn.LSTM(2, 3, proj_size=2), "b": nn.RNN(2, 3)})
    watched = ll.watch(model)
    with pytest.raises(ValueError, match="a: got an LSTM with proj_size=2"):
        watched["a"].facts()
    with pytest.raises(KeyError, match="name: got 'c', expected one of 'a', 'b'"):
        watched["c"]


def test_lengths_can_be_given_where_the_model_had_none():
    module, x = net("GRU"), sequences()
    watched = ll.watch(module)
    module(x)
    lengths = torch.tensor([2, 6, 3])
    found = watched[""].jacobians(lengths=lengths)
    torch.testing.assert_close(found, ll.state_jacobians(ll.from_torch(module), x, lengths=lengths))
    assert_relative(found, step_jacobians(ll.from_torch(module), x, lengths))
