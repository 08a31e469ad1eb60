"""Parameters of the optimizer that are not the model's, and those that are thawed on the way."""

import pytest
import torch
from torch import nn

import longlag as ll
from longlag.training import NonFiniteWeightsError, StopTraining

X = torch.randn(8, 5, 2, generator=torch.Generator().manual_seed(0))
Y = X.sum((1, 2)).unsqueeze(-1)


def model():
    return ll.SequenceModel(ll.Elman(2, 4, seed=0), 1, seed=1)


class Weighted(nn.Module):
    """A loss that learns how noisy the targets are."""

    def __init__(self, start=0.0):
        super().__init__()
        self.v = nn.Parameter(torch.tensor(start))

    def forward(self, output, target):
        return torch.exp(-self.v) * nn.functional.mse_loss(output, target) + self.v


def by_hand(steps, clip=None):
    net, loss = model(), Weighted()
    both = [*net.parameters(), *loss.parameters()]
    optimizer = torch.optim.SGD(both, lr=0.05)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(net(X), Y)
        value.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(both, clip)
        optimizer.step()
        losses.append(value.item())
    return losses, loss.v.item()


def fitted(steps, loss=None, **options):
    net, loss = model(), Weighted() if loss is None else loss
    optimizer = torch.optim.SGD([*net.parameters(), *loss.parameters()], lr=0.05)
    history = ll.fit(
        net,
        (X, Y),
        loss=loss,
        optimizer=optimizer,
        steps=steps,
        batch_size=8,
        progress=False,
        **options,
    )
    return history.losses.tolist(), loss


@pytest.mark.parametrize("clip", [None, 0.3])
def test_a_loss_with_parameters_is_trained_as_in_a_plain_loop(clip):
    losses, loss = fitted(20, clip_norm=clip)
    wanted, v = by_hand(20, clip)
    assert losses == pytest.approx(wanted, rel=1e-5)
    assert loss.v.item() == pytest.approx(v, rel=1e-5)
    assert loss.v.grad is None


def test_a_run_that_stops_goes_on_with_them(tmp_path):
    whole, loss = fitted(12)
    fitted(5, checkpoint=tmp_path / "run")
    again = Weighted()
    losses, _ = fitted(12, again, checkpoint=tmp_path / "run")
    assert losses == whole
    assert torch.equal(again.v, loss.v)


def test_a_checkpoint_without_them_is_of_other_settings(tmp_path):
    ll.fit(model(), (X, Y), steps=2, batch_size=8, progress=False, checkpoint=tmp_path / "run")
    with pytest.raises(Exception, match="parameters"):
        fitted(4, checkpoint=tmp_path / "run")


def test_one_that_is_not_finite_ends_the_run(tmp_path):
    class Jump(nn.Module):
        def __init__(self):
            super().__init__()
            self.v = nn.Parameter(torch.tensor(3e38))

        def forward(self, output, target):
            return nn.functional.mse_loss(output, target) - self.v

    net, loss = model(), Jump()
    groups = [{"params": list(net.parameters())}, {"params": [loss.v], "lr": 3e38}]
    with pytest.raises(NonFiniteWeightsError, match="optimizer"):
        ll.fit(
            net, (X, Y), loss=loss, optimizer=torch.optim.SGD(groups, lr=0.01), steps=1,
            batch_size=8, progress=False, checkpoint=tmp_path / "run",
        )  # fmt: skip


def test_a_layer_that_a_callback_thaws_is_trained_from_there_on():
    net = model()
    net.layer.requires_grad_(False)
    norms = []

    class Thaw:
        def after_update(self, step, model):
            norms.append([p.grad is None for p in model.layer.parameters()])
            if step == 3:
                model.layer.requires_grad_(True)

    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    before = [p.detach().clone() for p in net.layer.parameters()]
    ll.fit(
        net, (X, Y), optimizer=optimizer, steps=9, batch_size=8, callbacks=[Thaw()], progress=False
    )
    other = model()
    other.layer.requires_grad_(False)
    plain = torch.optim.SGD(other.parameters(), lr=0.05)
    for step in range(9):
        plain.zero_grad()
        nn.functional.mse_loss(other(X), Y).backward()
        plain.step()
        if step == 2:
            other.layer.requires_grad_(True)
    for one, wanted, old in zip(
        net.layer.parameters(), other.layer.parameters(), before, strict=True
    ):
        torch.testing.assert_close(one, wanted)
        assert not torch.equal(one, old)


@pytest.mark.parametrize("method", [ll.RTRL(), ll.TruncatedBPTT(2), ll.CheckpointedBPTT(4)])
def test_methods_that_see_the_model_alone_refuse_them(method):
    with pytest.raises(ValueError, match="optimizer holds 1 parameters beside the model's"):
        fitted(2, method=method)


def test_a_stop_leaves_no_gradient_behind():
    def stop(record, model):
        raise StopTraining

    _, loss = fitted(5, validate_every=1, callbacks=[stop])
    assert loss.v.grad is None
