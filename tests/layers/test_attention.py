"""A mean over the steps of a sequence whose weights are learned."""

import numpy as np
import pytest
import torch
from tests.pipeline.test_echo import data as series

import longlag as ll
from longlag.pipeline.dataset import hold_out
from longlag.pipeline.fitted import Fitted
from longlag.pipeline.fitting import Pipeline
from longlag.pipeline.settings import Settings

LENGTHS = torch.tensor([7, 3, 0, 5])


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def model(layer=None, **options):
    """In float64, its attention random, nothing at 0."""
    layer = layer or ll.Elman(2, 4, seed=0, dtype=torch.float64, backend="reference")
    net = ll.SequenceModel(layer, 3, reduce="attention", seed=1, **options)
    with torch.no_grad():
        for number, part in enumerate(net.attention.parameters()):
            part.copy_(random(*part.shape, seed=number))
    return net


def read(attention, h, x):
    """What is read of the steps of one sequence, by the equation: NumPy."""
    a, c, v = (part.detach().numpy() for part in attention.parameters())
    if not len(h):
        return np.zeros(h.shape[1]), np.zeros(x.shape[1])
    weights = np.exp([v @ np.tanh(a @ step + c) for step in h.detach().numpy()])
    weights /= weights.sum()
    return weights @ h.detach().numpy(), weights @ x.numpy()


@pytest.mark.parametrize("both_ways", [False, True])
def test_it_is_its_equation(both_ways):
    layers = [ll.Elman(2, 4, seed=n, dtype=torch.float64, backend="reference") for n in (0, 1)]
    net = model(ll.Bidirectional(*layers) if both_ways else layers[0], direct=True)
    x = random(4, 7, 2)
    h, _ = net.layer(x, lengths=LENGTHS)
    pairs = [
        read(net.attention, one[:n], seen[:n]) for one, seen, n in zip(h, x, LENGTHS, strict=True)
    ]
    expected = net.readout(*(torch.tensor(np.array(part)) for part in zip(*pairs, strict=True)))
    torch.testing.assert_close(net(x, lengths=LENGTHS), expected)
    torch.testing.assert_close(net(x)[0], expected[0])
    padded = x.masked_fill((torch.arange(7) >= LENGTHS[:, None]).unsqueeze(-1), 9.0)
    torch.testing.assert_close(net(padded, lengths=LENGTHS), expected)
    none = net(x[:, :0])
    torch.testing.assert_close(none, net(x, lengths=torch.zeros(4, dtype=torch.long)))


def test_an_untrained_one_is_the_mean():
    x = random(4, 7, 2)
    layer = ll.GRU(2, 4, seed=0, dtype=torch.float64)
    nets = [ll.SequenceModel(layer, 3, reduce=r, seed=1) for r in ("attention", "mean")]
    torch.testing.assert_close(*(net(x, lengths=LENGTHS) for net in nets))
    assert [row.name for row in nets[0].summary().rows] == ["layer", "attention", "readout"]


def test_replicas_are_networks_of_their_own():
    many = model(ll.Elman(2, 4, replicas=2, seed=0, dtype=torch.float64, backend="reference"))
    x, lengths = random(2, 4, 7, 2), LENGTHS.expand(2, 4)
    together = many(x, lengths=lengths)
    for r in range(2):
        one = model()
        with torch.no_grad():
            for mine, theirs in zip(one.parameters(), many.parameters(), strict=True):
                mine.copy_(theirs[r])
        torch.testing.assert_close(together[r], one(x[r], lengths=LENGTHS))


def test_gradients_are_finite_differences():
    net, x = model(direct=True), random(3, 5, 2).requires_grad_()
    named = dict(net.named_parameters())
    lengths = torch.tensor([5, 2, 4])

    def output(x, *values):
        given = dict(zip(named, values, strict=True))
        return torch.func.functional_call(net, given, (x,), {"lengths": lengths})

    assert torch.autograd.gradcheck(output, (x, *named.values()))


@pytest.mark.parametrize("method", [ll.CheckpointedBPTT(3), ll.RTRL()])
def test_it_gives_the_same_by_pieces(method):
    net, x, target = model(direct=True), random(4, 7, 2), torch.tensor([0, 1, 2, 0])
    loss = torch.nn.functional.cross_entropy
    expected = ll.BPTT().gradients(net, x, target, loss, lengths=LENGTHS)
    found = method.gradients(net, x, target, loss, lengths=LENGTHS)
    torch.testing.assert_close(found, expected)
    assert all(value.any() for value in found.values())


def test_it_is_trained_by_the_compiled_step_and_saved(tmp_path):
    x = random(4, 7, 2).float()
    net = ll.SequenceModel(ll.GRU(2, 4, seed=0), 3, reduce="attention", seed=1)
    history = ll.fit(net, (x, torch.tensor([0, 1, 2, 0])), epochs=3, progress=False)
    assert history.step == "compiled"
    assert net.attention.vector.all()
    assert net.attention.bias.any()
    ll.save(net, tmp_path / "net.longlag")
    again = ll.load(tmp_path / "net.longlag")
    assert torch.equal(again(x, lengths=LENGTHS), net(x, lengths=LENGTHS))


def test_a_readout_is_fitted_on_what_it_reads():
    net, x, target = model(), random(24, 7, 2), random(24, 3, seed=5)
    ll.fit(net, (x, target), method=ll.Ridge(0.1), batch_size=5)
    f = net.what_is_read(x)[0].detach().numpy()
    y, centred = target.numpy(), f - f.mean(0)
    expected = np.linalg.solve(centred.T @ centred + 0.1 * np.eye(4), centred.T @ (y - y.mean(0)))
    np.testing.assert_allclose(net.readout.weight.detach().numpy(), expected.T, rtol=1e-6)


def test_what_goes_step_by_step_does_not_take_it():
    with pytest.raises(ValueError, match="reduce='attention', whose weights are of all steps"):
        ll.Stream(model())
    with pytest.raises(ValueError, match="reduce='attention' puts out one number for all steps"):
        model().generate(3)


def test_the_pipeline_trains_and_keeps_one(tmp_path):
    settings = Settings("classification", hidden=4, reduce="attention", epochs=3)
    parts = hold_out(series("classification"), "classification", share=0.3, seed=0)
    done = Pipeline.of(parts, settings).fit(progress=False)
    assert done.model.attention.vector.any()
    done.save(tmp_path / "model.longlag")
    new = series("classification", seed=1)
    told, again = (one.predict(new)[0] for one in (done, Fitted.load(tmp_path / "model.longlag")))
    np.testing.assert_array_equal(told.probabilities, again.probabilities)
