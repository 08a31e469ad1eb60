import pytest
import torch
from tests.chunker import cases

import longlag as ll
from longlag.chunker import Chunker


@pytest.mark.parametrize(("p", "a", "c"), [(4, 42, 36), (10, 156, 144), (100, 10506, 10404)])
def test_the_weight_counts_of_the_table_of_1997(p, a, c):
    for replicas in (None, 3):
        first, second = (
            ll.Elman(p + 1, 1, activation="sigmoid", bias=False, replicas=replicas)
            for _ in range(2)
        )
        nets = Chunker(first, second, imitate="hidden", direct=True, bias=False)
        assert nets.weights == (a, c)
        assert a == (p + 2) * (p + 3)
        assert c == (p + 2) ** 2


def test_imitating_the_whole_state_takes_an_output_for_each_output_of_the_chunker():
    nets = cases.nets(hidden=(3, 2), imitate="state")
    assert nets.imitation.weight.shape == (3, 2 + 6, 3)
    assert cases.nets(hidden=(3, 2), imitate="hidden").imitation.weight.shape == (3, 2, 3)


def test_the_automatizer_alone_predicts():
    nets = cases.nets(replicas=None)
    x = torch.tensor([[0, 3, 1], [2, 2, 0]])
    target = torch.rand(2, 3, 2, dtype=torch.float64)
    target[0, 1] = torch.nan
    given = nets.inputs(x, target)
    assert given.shape == (2, 3, 6)
    assert given.dtype == torch.float64
    assert torch.equal(given[..., :4].argmax(-1), x)
    assert torch.equal(given[0, 1, 4:], torch.zeros(2, dtype=torch.float64))
    assert torch.equal(nets(x, target), nets.automatizer(given))
    assert torch.equal(nets.inputs(x)[..., 4:], torch.zeros(2, 3, 2, dtype=torch.float64))
    vectors = torch.rand(2, 3, 4, dtype=torch.float64)
    assert torch.equal(nets.inputs(vectors, target)[..., :4], vectors)


def test_links_of_the_chunker_on_their_own():
    a, c = (ll.Elman(4, 2) for _ in range(2))
    nets = Chunker(a, c, direct=True, chunker_direct=False)
    assert nets.automatizer.readout.weight_direct is not None
    assert nets.imitation.weight_direct is not None
    assert nets.chunker.readout.weight_direct is None


def test_a_seed_draws_the_outputs():
    def made(seed):
        return Chunker(ll.Elman(4, 2, seed=0), ll.Elman(4, 2, seed=1), seed=seed)

    for name, value in cases.weights(made(5)).items():
        assert torch.equal(value, cases.weights(made(5))[name])
    readouts = [p for n, p in cases.weights(made(5)).items() if "layer" not in n]
    others = [p for n, p in cases.weights(made(6)).items() if "layer" not in n]
    assert not any(torch.equal(one, other) for one, other in zip(readouts, others, strict=True))
    assert not torch.equal(made(5).automatizer.readout.weight, made(5).chunker.readout.weight)


def test_nets_that_do_not_fit():
    layer = ll.Elman(4, 2)
    with pytest.raises(TypeError, match="automatizer: got SequenceModel, expected a recurrent"):
        Chunker(ll.SequenceModel(layer, 3), layer)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="chunker: is the same layer"):
        Chunker(layer, layer)
    with pytest.raises(ValueError, match="chunker: has input_size 5, expected 4"):
        Chunker(layer, ll.Elman(5, 2))
    with pytest.raises(ValueError, match="chunker: has replicas 3, expected None"):
        Chunker(layer, ll.Elman(4, 2, replicas=3))
    with pytest.raises(ValueError, match="chunker: got Bidirectional, which reads from both ends"):
        Chunker(layer, ll.Bidirectional(ll.Elman(4, 2)))
    other = ll.Elman(4, 2)
    with pytest.raises(ValueError, match="imitate: got 'all', expected 'state' or 'hidden'"):
        Chunker(layer, other, imitate="all")
    with pytest.raises(ValueError, match="target_size: got 4, expected 0 to 3"):
        Chunker(layer, other, target_size=4)
    with pytest.raises(TypeError, match="target_size: got True"):
        Chunker(layer, other, target_size=True)
