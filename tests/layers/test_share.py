"""What is read of a sequence: shares of the steps at which units are above 0, greatest values."""

import numpy as np
import pytest
import torch

import longlag as ll

both = pytest.mark.parametrize("reduce", ["share", "share_max"])


def model(layer=None, reduce="share", **options):
    layer = layer or ll.EchoState(2, 6, bias_scaling=0.5, seed=0)
    return ll.SequenceModel(layer, 3, reduce=reduce, seed=1, **options)


def read(h, reduce):
    """Of the steps of one sequence, (T, H), what is read."""
    shares = (h > 0).to(h.dtype).mean(0)
    odd = torch.arange(h.shape[1]) % 2 == 1
    return torch.where(odd, h.amax(0), shares) if reduce == "share_max" else shares


def data():
    x = torch.randn(4, 9, 2, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([9, 5, 1, 7])
    return x, lengths


@both
@pytest.mark.parametrize("both_ways", [False, True])
def test_it_is_counted_over_the_steps_of_each_sequence(both_ways, reduce):
    x, lengths = data()
    layer = ll.EchoState(2, 6, bias_scaling=0.5, seed=0)
    if both_ways:
        layer = ll.Bidirectional(layer, ll.EchoState(2, 6, seed=2))
    net = model(layer, reduce)
    h, _ = layer(x, lengths=lengths)
    shares = torch.stack([read(h[n, :length], reduce) for n, length in enumerate(lengths)])
    assert 0.2 < float(shares.mean()) < 0.8
    torch.testing.assert_close(net(x, lengths=lengths), net.readout(shares))
    whole = torch.stack([read(one, reduce) for one in layer(x)[0]])
    torch.testing.assert_close(net(x), net.readout(whole))
    padded = x.masked_fill((torch.arange(9) >= lengths[:, None]).unsqueeze(-1), 9.0)
    torch.testing.assert_close(net(padded, lengths=lengths), net(x, lengths=lengths))
    none = net(x, lengths=torch.zeros(4, dtype=torch.long))
    torch.testing.assert_close(none, net.readout(torch.zeros(4, net.layer.output_size)))
    assert torch.equal(net(x[:, :0]), none)


def test_the_readout_sees_the_mean_of_the_input_beside_it():
    x, lengths = data()
    net = model(direct=True)
    mean = torch.stack([x[n, :length].mean(0) for n, length in enumerate(lengths)])
    shares, seen, _ = net.what_is_read(x, lengths=lengths)
    torch.testing.assert_close(seen, mean)
    torch.testing.assert_close(net(x, lengths=lengths), net.readout(shares, mean))


@both
def test_ridge_fits_what_numpy_fits(reduce):
    x, _ = data()
    x = torch.cat([x + number for number in range(6)])
    target = torch.randn(24, 3, generator=torch.Generator().manual_seed(1))
    net = model(reduce=reduce)
    ll.fit(net, (x, target), method=ll.Ridge(0.1), batch_size=5)
    f = torch.stack([read(h.double(), reduce) for h in net.layer(x)[0]]).numpy()
    y = target.double().numpy()
    centred = f - f.mean(0)
    expected = np.linalg.solve(centred.T @ centred + 0.1 * np.eye(6), centred.T @ (y - y.mean(0)))
    np.testing.assert_allclose(
        net.readout.weight.detach().numpy(), expected.T, rtol=1e-4, atol=1e-6
    )


@both
def test_updates_move_the_readout_alone(reduce):
    x, _ = data()
    net = model(ll.GRU(2, 6, seed=0), reduce)
    before = {name: part.clone() for name, part in net.named_parameters()}
    history = ll.fit(net, (x, torch.tensor([0, 1, 2, 0])), epochs=2, progress=False)
    assert history.step == "eager"
    assert history.reason.startswith(f"reduce='{reduce}' sends no error to the layer; freeze it")
    for name, part in net.named_parameters():
        assert torch.equal(part, before[name]) == name.startswith("layer."), name


@both
@pytest.mark.parametrize("method", [ll.CheckpointedBPTT(3), ll.RTRL()])
def test_it_gives_the_same_by_pieces(method, reduce):
    x, lengths = data()
    net, target = model(ll.Elman(2, 6, seed=0), reduce), torch.tensor([0, 1, 2, 0])
    loss = torch.nn.functional.cross_entropy
    expected = ll.BPTT().gradients(net, x, target, loss, lengths=lengths)
    found = method.gradients(net, x, target, loss, lengths=lengths)
    torch.testing.assert_close(found, expected)
    assert found["readout.weight"].any()
    assert not any(value.any() for name, value in found.items() if name.startswith("layer."))


def test_no_step_can_read_it():
    with pytest.raises(ValueError, match="reduce='share' puts out one number for all steps"):
        model().generate(3)


@both
def test_it_is_saved(tmp_path, reduce):
    x, lengths = data()
    net = model(reduce=reduce)
    ll.save(net, tmp_path / "net.longlag")
    again = ll.load(tmp_path / "net.longlag")
    assert again.reduce == reduce
    assert torch.equal(again(x, lengths=lengths), net(x, lengths=lengths))
