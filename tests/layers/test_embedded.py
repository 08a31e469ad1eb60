"""Vectors in the place of categories, beside one-hot inputs times these vectors."""

import pytest
import torch

import longlag as ll
from longlag.layers.embedded import embedding_size
from longlag.memory import jacobian_norms
from longlag.storage import ArchiveError, read_archive, write_archive

DOUBLE = torch.float64
CATEGORIES, SIZES = {0: 4, 2: 7}, {0: 2}


def model(reduce="last", layer=None, seed=0):
    inner = layer or ll.GRU(1 + 2 + 5, 6, seed=seed, dtype=DOUBLE)
    return ll.SequenceModel(
        ll.Embedded(inner, CATEGORIES, SIZES, seed=seed), 2, reduce=reduce, seed=seed
    )


def sequences():
    """x (5, 9, 3): categories, of which -1 and 7 are none, stand first and last."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(5, 9, 3, generator=generator, dtype=DOUBLE)
    x[..., 0] = torch.randint(-1, 4, (5, 9), generator=generator)
    x[..., 2] = torch.randint(0, 8, (5, 9), generator=generator)
    return x


def by_hand(net, x):
    """The numbers, then the vectors as products of one-hot inputs and E."""
    parts = [x[..., 1:2]]
    for at, vectors in zip((0, 2), net.layer.vectors, strict=True):
        one_hot = (x[..., at, None] == torch.arange(len(vectors))).to(x.dtype)
        parts.append(one_hot @ vectors)
    return torch.cat(parts, -1)


@pytest.mark.parametrize("reduce", [None, "last", "mean"])
def test_it_reads_what_one_hot_inputs_times_the_vectors_are(reduce):
    net, x, lengths = model(reduce), sequences(), torch.tensor([9, 3, 5, 1, 8])
    plain = ll.SequenceModel(net.layer.inner, readout=net.readout, reduce=reduce)
    output, expected = net(x, lengths=lengths), plain(by_hand(net, x), lengths=lengths)
    assert torch.equal(output, expected)
    weights = list(net.layer.vectors)
    for one, other in zip(
        torch.autograd.grad(output.square().sum(), weights),
        torch.autograd.grad(expected.square().sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
        assert bool((one != 0).any())


def test_what_is_no_category_is_a_vector_of_zeros():
    net, x = model().layer, sequences()
    for strange in (-1.0, 4.0, 1e9, float("nan")):
        x[..., 0] = strange
        assert bool((net.embed(x)[..., 1:3] == 0).all())


def test_sizes_and_first_vectors():
    assert [embedding_size(count) for count in (1, 3, 10, 50, 10**6)] == [1, 3, 6, 14, 50]
    layer = ll.Embedded(ll.Elman(50, 4), {0: 4000}, seed=3)
    lengths = layer.vectors[0].detach().norm(dim=1)
    assert abs(float(lengths.mean()) - 1) < 0.01
    assert torch.equal(layer.vectors[0], ll.Embedded(ll.Elman(50, 4), {0: 4000}, seed=3).vectors[0])
    before = layer.vectors[0].clone()
    layer.reset_parameters(4)
    assert not torch.equal(before, layer.vectors[0])


@pytest.mark.parametrize("method", [ll.BPTT(), ll.TruncatedBPTT(9), ll.CheckpointedBPTT(3)])
def test_methods_that_run_the_model_train_the_vectors_alike(method):
    net, x, y = model(None), sequences(), torch.ones(5, 9, 2, dtype=DOUBLE)
    history = ll.fit(net, (x, y), method=method, epochs=2, seed=0, progress=False)
    like = model(None)
    ll.fit(like, (x, y), epochs=2, seed=0, progress=False)
    for one, other in zip(net.parameters(), like.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    assert not torch.equal(net.layer.vectors[0], model(None).layer.vectors[0])
    assert history.step == "eager"
    if isinstance(method, ll.BPTT):
        assert history.reason is not None
        assert "vectors of categories" in history.reason


def test_methods_that_see_into_the_recurrence_refuse():
    data = sequences(), torch.ones(5, 9, 2, dtype=DOUBLE)
    with pytest.raises(TypeError, match=r"RTRL sees into the recurrence .* vectors of categories"):
        ll.fit(model(None), data, method=ll.RTRL(), epochs=1, progress=False)


def test_a_stream_and_a_report_read_categories():
    net, x = model(None), sequences()
    stream = ll.Stream(net, batch=5)
    steps = torch.stack([stream(x[:, t]) for t in range(9)], 1)
    torch.testing.assert_close(steps, net(x))
    assert stream.reason is not None
    report = ll.memory_report(net, x, exponents=0)
    plain = ll.SequenceModel(net.layer.inner, readout=net.readout, reduce=None)
    assert report.to_dict() == ll.memory_report(plain, by_hand(net, x), exponents=0).to_dict()
    with ll.watch(net) as watch:
        net(x)
    assert watch.names == ("layer.layer",)
    norms, expected = watch["layer.layer"].norms(), jacobian_norms(plain, by_hand(net, x))
    assert torch.equal(norms.largest.mean, expected.largest.mean)


def test_it_is_saved_and_a_forged_file_refused(tmp_path):
    net, x, path = model(layer=ll.Bidirectional(ll.LSTM(8, 3, dtype=DOUBLE))), sequences(), tmp_path
    ll.save(net, path / "model.longlag")
    again = ll.load(path / "model.longlag")
    assert torch.equal(again(x), net(x))
    assert again.layer.sizes == {0: 2, 2: 5}
    document, tensors = read_archive(path / "model.longlag", "model")
    for forged in ([[0, 4]], [[0, 4, 2], [2, 7, 4]], [[0, 5, 2], [2, 7, 5]], {"0": [4, 2]}):
        document["model"]["layer"]["categories"] = forged
        write_archive(path / "forged.longlag", "model", document, tensors)
        with pytest.raises(ArchiveError, match="describes no model"):
            ll.load(path / "forged.longlag")


def test_what_does_not_fit_is_refused():
    gru = ll.GRU(8, 4)
    with pytest.raises(ValueError, match="direct: got True, expected False"):
        ll.SequenceModel(ll.Embedded(gru, CATEGORIES, SIZES), 2, direct=True)
    with pytest.raises(ValueError, match="reads 8 numbers, expected 21 or more"):
        ll.Embedded(gru, {0: 100})
    with pytest.raises(ValueError, match=r"got position 4, .* so that x has 4 features, 0 to 3"):
        ll.Embedded(gru, {4: 7})
    with pytest.raises(ValueError, match=r"categories: got \{\}"):
        ll.Embedded(gru, {})
    with pytest.raises(ValueError, match="sizes: position 1 is not among"):
        ll.Embedded(gru, {0: 7}, {1: 2})
    with pytest.raises(ValueError, match=r"layer: got replicas=2, expected None; ll\.fit_replicas"):
        ll.Embedded(ll.GRU(8, 4, replicas=2), {0: 7})
    with pytest.raises(ValueError, match="vectors of its own"):
        ll.Embedded(ll.Embedded(gru, {0: 7}), {0: 2})
    with pytest.raises(ValueError, match=r"x: got shape \(2, 3, 9\), expected 4 features"):
        ll.Embedded(gru, {0: 7})(torch.zeros(2, 3, 9))
    with pytest.raises(ValueError, match="has no Embedded"):
        ll.Embedded(gru, {0: 7}).to_torch()
