"""Parameters that are more than numbers of their own: tied to another, or computed from others."""

from torch import nn

MAKE_PLAIN = (
    "make it a parameter before, with remove_parametrizations, remove_weight_norm, "
    "remove_spectral_norm or prune.remove of torch.nn.utils"
)
"""What to do with a weight that is computed, where only plain ones will do."""

UNTIE = (
    "put nn.Parameter(weight.detach().clone()) in the place of the second before, and tie those of "
    "the copy after"
)
"""What to do with parameters that are the same, where the two will be apart."""


def tied(module: nn.Module) -> dict[str, str]:
    """The names under which a parameter stands a second time, each with the first.

    >>> two = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    >>> two[1].weight = two[0].weight
    >>> tied(two)
    {'1.weight': '0.weight'}
    """
    first: dict[nn.Parameter, str] = {}
    named = module.named_parameters(remove_duplicate=False)
    return {name: first[p] for name, p in named if first.setdefault(p, name) != name}
