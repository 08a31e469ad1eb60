# Written by tools/stubs.py from the table in cells/__init__.py.

from collections.abc import Callable, Mapping, Sequence

from typing_extensions import Unpack

from longlag.layers.recurrent import Options, Recurrent

LAYERS: Mapping[str, Callable[..., Recurrent]]
__all__ = [
    "GRU",
    "LEM",
    "LRU",
    "LSTM",
    "LSTM1997",
    "Antisymmetric",
    "Clockwork",
    "CoRNN",
    "Elman",
    "IndRNN",
    "Leaky",
    "MinGRU",
    "Skip",
]

class GRU(Recurrent):
    r"""Gated recurrent unit, the reset after the matrix product or before it.

    .. math::
        r_t &= \sigma(U_r x_t + W_r h_{t-1} + b_r) \\
        z_t &= \sigma(U_z x_t + W_z h_{t-1} + b_z) \\
        n_t &= \tanh(U_n x_t + b_n + r_t \odot (W_n h_{t-1} + b_{hn})) \\
        h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}

    Gate order as in PyTorch: r, z, n. The reset needs a second bias, b_hn, for n. With
    ``reset_after=False`` there is none, and the reset comes first:

    .. math:: m_t = r_t \odot h_{t-1}, \qquad n_t = \tanh(U_n x_t + W_n m_t + b_n)

    Then m is a second state, of which no later step reads anything.

    Parameters, attributes and cost are those of :class:`~longlag.Recurrent`.

    Args:
        input_size: C, features per step; 0 for a network that runs by itself, where x is (N, T, 0).
        hidden_size: H, units.
        recurrent_bias: whether there is a b_hn; in a layer, by default, as ``bias``.
        reset_after: whether the reset comes after the product.
        bias: whether there are biases b.
        input_dropout: probability in [0, 1) with which an input feature is dropped, for a whole
            sequence at a time, in training.
        recurrent_dropout: the same for the state that W reads.
        weight_ih_init: how each gate's (H, C) block of U is drawn: ``"glorot"``,
            ``"orthogonal"``, ``"identity"``, ``"uniform"``, ``"normal"`` or an object of
            :mod:`longlag.init`.
        weight_hh_init: how each (H, H) matrix of W is drawn; where a pattern has no block, it is
            then set to zero.
        density: None for a dense W. Else W is sparse: a fraction in (0, 1], the share of the units
            that each unit reads, at least one, drawn anew for each; or a boolean matrix (G' H, H),
            True for the entries that are there. A step costs as many multiply-adds as there are
            entries. Glorot and orthogonal matrices are scaled by the square root of 1 / share.
        bias_init: None for the cell's own biases, or :class:`~longlag.init.Chrono`.
        dilation: d, at least 1: the update reads the states of d steps before in place of those of
            one step before. The state is then d steps deep: the declared ones, as ever, then those
            of 1 .. d - 1 steps before, as h_1, h_2.
        replicas: R independent networks in one: an R stands in front of every parameter, of x,
            of the state and of the output.
        weights: None for W as it is stored; ``"bfloat16"`` for W with each number rounded to the
            nearest of bfloat16, which has 8 bits of precision, a relative error of at most 2^-9.
            The compiled kernels keep it in 2 bytes a number for fewer than four sequences a thread,
            whose step takes as long as reading W. States and sums are of float32 as before, and so
            is the stored W: its gradient is that of the rounded one, and updates add up in it. Of
            float32 alone, dense and without a constraint. As an attribute it may be set later.
        backend: ``"auto"``, or a backend of :data:`longlag.scan.BACKENDS`.
        seed: for the initial parameters: a whole number, a generator, or None for PyTorch's
            global generator.
        device, dtype: as in torch.nn.

    Source: K. Cho et al., Learning phrase representations using RNN encoder-decoder, EMNLP 2014
    (the reset before the product); the form with the reset after it is that of cuDNN, PyTorch and
    Keras, where the first is ``reset_after=False``.

    Example:
        >>> import longlag as ll
        >>> ll.cells.GRU().recurrence.units
        ('bias_hn',)
        >>> ll.GRU(3, 4).bias_hn.shape
        torch.Size([4])
    """
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        recurrent_bias: bool | None = None,
        reset_after: bool = True,
        **options: Unpack[Options],
    ) -> None: ...

class LSTM(Recurrent):
    r"""Long short-term memory with a forget gate, and peepholes if wanted.

    .. math::
        i_t &= \sigma(U_i x_t + W_i h_{t-1} + b_i + p_i \odot c_{t-1}) \\
        f_t &= \sigma(U_f x_t + W_f h_{t-1} + b_f + p_f \odot c_{t-1}) \\
        g_t &= \tanh(U_g x_t + W_g h_{t-1} + b_g) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t \\
        o_t &= \sigma(U_o x_t + W_o h_{t-1} + b_o + p_o \odot c_t) \\
        h_t &= o_t \odot \tanh(c_t)

    The terms with p are there with ``peepholes=True`` only. Gate order as in PyTorch: i, f, g, o.

    Parameters, attributes and cost are those of :class:`~longlag.Recurrent`.

    Args:
        input_size: C, features per step; 0 for a network that runs by itself, where x is (N, T, 0).
        hidden_size: H, units.
        forget_bias: initial b_f. With 1 the memory is open at the start of training.
        peepholes: whether the gates see the memory c; the p start at 0.
        bias: whether there are biases b.
        input_dropout: probability in [0, 1) with which an input feature is dropped, for a whole
            sequence at a time, in training.
        recurrent_dropout: the same for the state that W reads.
        weight_ih_init: how each gate's (H, C) block of U is drawn: ``"glorot"``,
            ``"orthogonal"``, ``"identity"``, ``"uniform"``, ``"normal"`` or an object of
            :mod:`longlag.init`.
        weight_hh_init: how each (H, H) matrix of W is drawn; where a pattern has no block, it is
            then set to zero.
        density: None for a dense W. Else W is sparse: a fraction in (0, 1], the share of the units
            that each unit reads, at least one, drawn anew for each; or a boolean matrix (G' H, H),
            True for the entries that are there. A step costs as many multiply-adds as there are
            entries. Glorot and orthogonal matrices are scaled by the square root of 1 / share.
        bias_init: None for the cell's own biases, or :class:`~longlag.init.Chrono`.
        dilation: d, at least 1: the update reads the states of d steps before in place of those of
            one step before. The state is then d steps deep: the declared ones, as ever, then those
            of 1 .. d - 1 steps before, as h_1, h_2.
        replicas: R independent networks in one: an R stands in front of every parameter, of x,
            of the state and of the output.
        weights: None for W as it is stored; ``"bfloat16"`` for W with each number rounded to the
            nearest of bfloat16, which has 8 bits of precision, a relative error of at most 2^-9.
            The compiled kernels keep it in 2 bytes a number for fewer than four sequences a thread,
            whose step takes as long as reading W. States and sums are of float32 as before, and so
            is the stored W: its gradient is that of the rounded one, and updates add up in it. Of
            float32 alone, dense and without a constraint. As an attribute it may be set later.
        backend: ``"auto"``, or a backend of :data:`longlag.scan.BACKENDS`.
        seed: for the initial parameters: a whole number, a generator, or None for PyTorch's
            global generator.
        device, dtype: as in torch.nn.

    Source: S. Hochreiter and J. Schmidhuber, Long short-term memory, Neural Computation 9(8),
    1997; F. A. Gers, J. Schmidhuber and F. Cummins, Learning to forget, 2000 (forget gate);
    F. A. Gers et al., Learning precise timing with LSTM recurrent networks, JMLR 3, 2002
    (peepholes); R. Jozefowicz et al., An empirical exploration of recurrent network
    architectures, ICML 2015 (forget bias 1).

    Example:
        >>> import torch, longlag as ll
        >>> ll.cells.LSTM().recurrence.states
        ('h', 'c')
        >>> output, state = ll.LSTM(3, 4)(torch.zeros(2, 5, 3))
        >>> output.shape, state.c.shape
        (torch.Size([2, 5, 4]), torch.Size([2, 4]))
    """
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        forget_bias: float = 1.0,
        peepholes: bool = False,
        **options: Unpack[Options],
    ) -> None: ...

class Elman(Recurrent):
    r"""Elman network, the simple recurrent network.

    .. math:: h_t = \phi(U x_t + W h_{t-1} + b)

    Parameters, attributes and cost are those of :class:`~longlag.Recurrent`.

    Args:
        input_size: C, features per step; 0 for a network that runs by itself, where x is (N, T, 0).
        hidden_size: H, units.
        activation: phi: ``"tanh"``, ``"sigmoid"``, ``"relu"``, ``"identity"`` (a linear network),
            ``"saturated"``, min(1, max(0, .)), the network of Siegelmann and Sontag;
            ``"bipolar"``, 2 sigma - 1, ``"double_bipolar"``, 4 sigma - 2, or ``"positive"``,
            a + 1/2 where a >= 0 and sigma below.
        constraint: what training keeps W: ``"orthogonal"``, so that a linear network keeps the
            norm of what it remembers; ``"antisymmetric"``; or None. A W that is kept orthogonal
            costs a system of H linear equations in each call.
        bias: whether there are biases b.
        input_dropout: probability in [0, 1) with which an input feature is dropped, for a whole
            sequence at a time, in training.
        recurrent_dropout: the same for the state that W reads.
        weight_ih_init: how each gate's (H, C) block of U is drawn: ``"glorot"``,
            ``"orthogonal"``, ``"identity"``, ``"uniform"``, ``"normal"`` or an object of
            :mod:`longlag.init`.
        weight_hh_init: how each (H, H) matrix of W is drawn; where a pattern has no block, it is
            then set to zero.
        density: None for a dense W. Else W is sparse: a fraction in (0, 1], the share of the units
            that each unit reads, at least one, drawn anew for each; or a boolean matrix (G' H, H),
            True for the entries that are there. A step costs as many multiply-adds as there are
            entries. Glorot and orthogonal matrices are scaled by the square root of 1 / share.
        bias_init: None for the cell's own biases, or :class:`~longlag.init.Chrono`.
        dilation: d, at least 1: the update reads the states of d steps before in place of those of
            one step before. The state is then d steps deep: the declared ones, as ever, then those
            of 1 .. d - 1 steps before, as h_1, h_2.
        replicas: R independent networks in one: an R stands in front of every parameter, of x,
            of the state and of the output.
        weights: None for W as it is stored; ``"bfloat16"`` for W with each number rounded to the
            nearest of bfloat16, which has 8 bits of precision, a relative error of at most 2^-9.
            The compiled kernels keep it in 2 bytes a number for fewer than four sequences a thread,
            whose step takes as long as reading W. States and sums are of float32 as before, and so
            is the stored W: its gradient is that of the rounded one, and updates add up in it. Of
            float32 alone, dense and without a constraint. As an attribute it may be set later.
        backend: ``"auto"``, or a backend of :data:`longlag.scan.BACKENDS`.
        seed: for the initial parameters: a whole number, a generator, or None for PyTorch's
            global generator.
        device, dtype: as in torch.nn.

    Raises:
        ValueError: for an unknown activation or constraint.

    Source: J. L. Elman, Finding structure in time, Cognitive Science 14, 1990; K. Helfrich,
    D. Willmott and Q. Ye, Orthogonal recurrent neural networks with scaled Cayley transform, ICML
    2018 (the orthogonal constraint).

    Example:
        >>> import torch, longlag as ll
        >>> print(ll.cells.Elman().latex("update"))
        \begin{align*}
        a_t &= U x_t + W h_{t-1} + b \\
        h_t &= \tanh{\left(a_t \right)}
        \end{align*}
        >>> sum(parameter.numel() for parameter in ll.Elman(15, 16).parameters())
        512
        >>> W = ll.Elman(3, 64, constraint="orthogonal").weight_hh
        >>> torch.allclose(W.T @ W, torch.eye(64), atol=1e-5)
        True
    """
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: str = "tanh",
        constraint: str | None = None,
        **options: Unpack[Options],
    ) -> None: ...

class Leaky(Recurrent):
    r"""Leaky units: each unit keeps a part of its state and moves by the rest.

    .. math:: h_t = (1 - a) \odot h_{t-1} + a \odot \phi(U x_t + W h_{t-1} + b)

    A unit with leak a forgets with the time constant of about 1/a steps. With
    ``recurrent=False`` there is no W: :math:`h_t = (1-a) h_{t-1} + a\,\phi(U x_t + b)`.

    Parameters, attributes and cost are those of :class:`~longlag.Recurrent`.

    Args:
        input_size: C, features per step; 0 for a network that runs by itself, where x is (N, T, 0).
        hidden_size: H, units.
        leak: a, in (0, 1]: one number, or one for each unit (multiple time scales). A trained
            leak starts strictly inside (0, 1) and stays there.
        train_leak: whether a is trained.
        shared_leak: one a for all units instead of one per unit.
        recurrent: whether there is a matrix W.
        activation: phi, as for :class:`~longlag.cells.Elman`.
        time_scales: 1/a of the first and of the last unit, in steps, at least 1, in place of
            ``leak``; those between lie on a logarithmic scale. For lags that are not known: (2, T)
            has units for all up to T.
        bias: whether there are biases b.
        input_dropout: probability in [0, 1) with which an input feature is dropped, for a whole
            sequence at a time, in training.
        recurrent_dropout: the same for the state that W reads.
        weight_ih_init: how each gate's (H, C) block of U is drawn: ``"glorot"``,
            ``"orthogonal"``, ``"identity"``, ``"uniform"``, ``"normal"`` or an object of
            :mod:`longlag.init`.
        weight_hh_init: how each (H, H) matrix of W is drawn; where a pattern has no block, it is
            then set to zero.
        density: None for a dense W. Else W is sparse: a fraction in (0, 1], the share of the units
            that each unit reads, at least one, drawn anew for each; or a boolean matrix (G' H, H),
            True for the entries that are there. A step costs as many multiply-adds as there are
            entries. Glorot and orthogonal matrices are scaled by the square root of 1 / share.
        bias_init: None for the cell's own biases, or :class:`~longlag.init.Chrono`.
        dilation: d, at least 1: the update reads the states of d steps before in place of those of
            one step before. The state is then d steps deep: the declared ones, as ever, then those
            of 1 .. d - 1 steps before, as h_1, h_2.
        replicas: R independent networks in one: an R stands in front of every parameter, of x,
            of the state and of the output.
        weights: None for W as it is stored; ``"bfloat16"`` for W with each number rounded to the
            nearest of bfloat16, which has 8 bits of precision, a relative error of at most 2^-9.
            The compiled kernels keep it in 2 bytes a number for fewer than four sequences a thread,
            whose step takes as long as reading W. States and sums are of float32 as before, and so
            is the stored W: its gradient is that of the rounded one, and updates add up in it. Of
            float32 alone, dense and without a constraint. As an attribute it may be set later.
        backend: ``"auto"``, or a backend of :data:`longlag.scan.BACKENDS`.
        seed: for the initial parameters: a whole number, a generator, or None for PyTorch's
            global generator.
        device, dtype: as in torch.nn.

    Raises:
        ValueError: for a leak or time scales outside their range, both of them, or an unknown
            activation.

    Source: M. C. Mozer, Induction of multiscale temporal structure, NIPS 1991; H. Jaeger et al.,
    Optimization and applications of echo state networks with leaky-integrator neurons, 2007.

    Example:
        >>> import longlag as ll
        >>> ll.cells.Leaky(leak=0.1, recurrent=False).recurrence.equations["h"]
        state.h*(1 - unit.leak) + unit.leak*tanh(pre.candidate)
        >>> ll.Leaky(3, 4, leak=(0.5, 0.1, 0.02, 0.004)).unit("leak")
        tensor([0.5000, 0.1000, 0.0200, 0.0040])
        >>> 1 / ll.Leaky(3, 4, time_scales=(2, 250)).unit("leak")
        tensor([  2.0000,  10.0000,  50.0000, 250.0000])
    """
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        leak: float | Sequence[float] = 0.1,
        train_leak: bool = False,
        shared_leak: bool = False,
        recurrent: bool = True,
        activation: str = "tanh",
        time_scales: tuple[float, float] | None = None,
        **options: Unpack[Options],
    ) -> None: ...

class Skip(Recurrent):
    r"""Elman network with skip connections: it also reads what it was several steps before.

    .. math:: h_t = \phi\Bigl(U x_t + \sum_{d \in \text{delays}} W_d h_{t-d} + b\Bigr)

    Error goes back d steps through one :math:`W_d`, so over a lag of k steps it meets some
    k / max(delays) factors where it would meet k, and vanishes or explodes that much later. For
    lags that are roughly known, of some times the longest delay; the state is max(delays) steps
    deep. Without a delay of 1 the short connections give way to long ones, as in a dilated network.

    Parameters, attributes and cost are those of :class:`~longlag.Recurrent`.

    Args:
        input_size: C, features per step; 0 for a network that runs by itself, where x is (N, T, 0).
        hidden_size: H, units.
        delays: the d, how many steps back h is read; different whole numbers, at least 1.
        activation: phi, as for :class:`~longlag.cells.Elman`.
        bias: whether there are biases b.
        input_dropout: probability in [0, 1) with which an input feature is dropped, for a whole
            sequence at a time, in training.
        recurrent_dropout: the same for the state that W reads.
        weight_ih_init: how each gate's (H, C) block of U is drawn: ``"glorot"``,
            ``"orthogonal"``, ``"identity"``, ``"uniform"``, ``"normal"`` or an object of
            :mod:`longlag.init`.
        weight_hh_init: how each (H, H) matrix of W is drawn; where a pattern has no block, it is
            then set to zero.
        density: None for a dense W. Else W is sparse: a fraction in (0, 1], the share of the units
            that each unit reads, at least one, drawn anew for each; or a boolean matrix (G' H, H),
            True for the entries that are there. A step costs as many multiply-adds as there are
            entries. Glorot and orthogonal matrices are scaled by the square root of 1 / share.
        bias_init: None for the cell's own biases, or :class:`~longlag.init.Chrono`.
        dilation: d, at least 1: the update reads the states of d steps before in place of those of
            one step before. The state is then d steps deep: the declared ones, as ever, then those
            of 1 .. d - 1 steps before, as h_1, h_2.
        replicas: R independent networks in one: an R stands in front of every parameter, of x,
            of the state and of the output.
        weights: None for W as it is stored; ``"bfloat16"`` for W with each number rounded to the
            nearest of bfloat16, which has 8 bits of precision, a relative error of at most 2^-9.
            The compiled kernels keep it in 2 bytes a number for fewer than four sequences a thread,
            whose step takes as long as reading W. States and sums are of float32 as before, and so
            is the stored W: its gradient is that of the rounded one, and updates add up in it. Of
            float32 alone, dense and without a constraint. As an attribute it may be set later.
        backend: ``"auto"``, or a backend of :data:`longlag.scan.BACKENDS`.
        seed: for the initial parameters: a whole number, a generator, or None for PyTorch's
            global generator.
        device, dtype: as in torch.nn.

    Raises:
        ValueError: for an unknown activation, or delays that are none or above 10000.

    Source: T. Lin, B. G. Horne, P. Tino and C. L. Giles, Learning long-term dependencies in NARX
    recurrent neural networks, IEEE Transactions on Neural Networks 7(6), 1996, where the outputs
    are read with delays; S. Chang et al., Dilated recurrent neural networks, NIPS 2017.

    Example:
        >>> import longlag as ll
        >>> print(ll.cells.Skip((1, 5)).latex("update"))
        \begin{align*}
        a_t &= U x_t + W^{(1)} h_{t-1} + W^{(5)} h_{t-5} + b \\
        h_t &= \tanh{\left(a_t \right)}
        \end{align*}
        >>> ll.Skip(3, 4, delays=(1, 10)).weight_hh.shape
        torch.Size([8, 4])
    """
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        delays: Sequence[int] = (1, 10),
        activation: str = "tanh",
        **options: Unpack[Options],
    ) -> None: ...

class Clockwork(Recurrent):
    r"""Clockwork network: groups of units, each with a clock, rest between the ticks of it.

    .. math::
        h^g_t = \begin{cases}
            \phi\bigl(U_g x_t + \sum_{j \ge g} W_{gj} h^j_{t-1} + b_g\bigr) & t \bmod T_g = 0 \\
            h^g_{t-1} & \text{otherwise}
        \end{cases}

    The units are divided into as many equal groups as there are periods :math:`T_g`, from the
    fastest to the slowest; a group reads itself and the slower ones. t counts from 0 at the start
    of a sequence and after a reset, so all groups take in the first step. In a group that rests
    error flows back unchanged: over a lag of k steps it meets :math:`k / T_g` factors. For inputs
    that have several time scales, where the slow ones are to be kept for long.

    The state is (h, t): t (N, 1) is the step, carried on from call to call. A group that rests
    costs no products in the compiled backend, forward or backward, and what others read of it is
    multiplied once a rest: with 8 periods 1, 2, ..., 128 a sixteenth of the dense products is left
    (with lengths or resets a fifth).

    Parameters, attributes and cost are those of :class:`~longlag.Recurrent`.

    Args:
        input_size: C, features per step; 0 for a network that runs by itself, where x is (N, T, 0).
        hidden_size: H, units.
        periods: the T_g, whole numbers from 1, each greater than the one before. H is a multiple
            of their number.
        activation: phi, as for :class:`~longlag.cells.Elman`.
        bias: whether there are biases b.
        input_dropout: probability in [0, 1) with which an input feature is dropped, for a whole
            sequence at a time, in training.
        recurrent_dropout: the same for the state that W reads.
        weight_ih_init: how each gate's (H, C) block of U is drawn: ``"glorot"``,
            ``"orthogonal"``, ``"identity"``, ``"uniform"``, ``"normal"`` or an object of
            :mod:`longlag.init`.
        weight_hh_init: how each (H, H) matrix of W is drawn; where a pattern has no block, it is
            then set to zero.
        density: None for a dense W. Else W is sparse: a fraction in (0, 1], the share of the units
            that each unit reads, at least one, drawn anew for each; or a boolean matrix (G' H, H),
            True for the entries that are there. A step costs as many multiply-adds as there are
            entries. Glorot and orthogonal matrices are scaled by the square root of 1 / share.
        bias_init: None for the cell's own biases, or :class:`~longlag.init.Chrono`.
        dilation: d, at least 1: the update reads the states of d steps before in place of those of
            one step before. The state is then d steps deep: the declared ones, as ever, then those
            of 1 .. d - 1 steps before, as h_1, h_2.
        replicas: R independent networks in one: an R stands in front of every parameter, of x,
            of the state and of the output.
        weights: None for W as it is stored; ``"bfloat16"`` for W with each number rounded to the
            nearest of bfloat16, which has 8 bits of precision, a relative error of at most 2^-9.
            The compiled kernels keep it in 2 bytes a number for fewer than four sequences a thread,
            whose step takes as long as reading W. States and sums are of float32 as before, and so
            is the stored W: its gradient is that of the rounded one, and updates add up in it. Of
            float32 alone, dense and without a constraint. As an attribute it may be set later.
        backend: ``"auto"``, or a backend of :data:`longlag.scan.BACKENDS`.
        seed: for the initial parameters: a whole number, a generator, or None for PyTorch's
            global generator.
        device, dtype: as in torch.nn.

    Raises:
        ValueError: for an unknown activation, or periods that are none.

    Source: J. Koutnik, K. Greff, F. Gomez and J. Schmidhuber, A clockwork RNN, ICML 2014, where
    the periods are the powers of 2.

    Example:
        >>> import torch, longlag as ll
        >>> layer = ll.Clockwork(3, 8, periods=(1, 2, 4, 8), seed=0)
        >>> output, _ = layer(torch.ones(1, 9, 3))
        >>> [int((output[0, t] != output[0, t - 1]).sum()) for t in range(1, 9)]
        [2, 4, 2, 6, 2, 4, 2, 8]
    """
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        periods: Sequence[int] = (1, 2, 4, 8),
        activation: str = "tanh",
        **options: Unpack[Options],
    ) -> None: ...

class IndRNN(Recurrent):
    r"""Independently recurrent network: each unit sees only its own past.

    .. math:: h_t = \phi(U x_t + w \odot h_{t-1} + b)

    The state-to-state Jacobian is diagonal, so the memory of unit i over k steps is
    :math:`|w_i|^k` at the most for an activation of slope 1.

    Parameters, attributes and cost are those of :class:`~longlag.Recurrent`.

    Args:
        input_size: C, features per step; 0 for a network that runs by itself, where x is (N, T, 0).
        hidden_size: H, units.
        activation: phi, as for :class:`~longlag.cells.Elman`; the paper's is ``"relu"``.
        initial_low: w starts uniform in [initial_low, initial_high).
        initial_high: see ``initial_low``. For a memory of T steps the paper keeps
            :math:`|w_i| \le 2^{1/T}`, and starts the last layer near 1.
        bias: whether there are biases b.
        input_dropout: probability in [0, 1) with which an input feature is dropped, for a whole
            sequence at a time, in training.
        recurrent_dropout: the same for the state that W reads.
        weight_ih_init: how each gate's (H, C) block of U is drawn: ``"glorot"``,
            ``"orthogonal"``, ``"identity"``, ``"uniform"``, ``"normal"`` or an object of
            :mod:`longlag.init`.
        weight_hh_init: how each (H, H) matrix of W is drawn; where a pattern has no block, it is
            then set to zero.
        density: None for a dense W. Else W is sparse: a fraction in (0, 1], the share of the units
            that each unit reads, at least one, drawn anew for each; or a boolean matrix (G' H, H),
            True for the entries that are there. A step costs as many multiply-adds as there are
            entries. Glorot and orthogonal matrices are scaled by the square root of 1 / share.
        bias_init: None for the cell's own biases, or :class:`~longlag.init.Chrono`.
        dilation: d, at least 1: the update reads the states of d steps before in place of those of
            one step before. The state is then d steps deep: the declared ones, as ever, then those
            of 1 .. d - 1 steps before, as h_1, h_2.
        replicas: R independent networks in one: an R stands in front of every parameter, of x,
            of the state and of the output.
        weights: None for W as it is stored; ``"bfloat16"`` for W with each number rounded to the
            nearest of bfloat16, which has 8 bits of precision, a relative error of at most 2^-9.
            The compiled kernels keep it in 2 bytes a number for fewer than four sequences a thread,
            whose step takes as long as reading W. States and sums are of float32 as before, and so
            is the stored W: its gradient is that of the rounded one, and updates add up in it. Of
            float32 alone, dense and without a constraint. As an attribute it may be set later.
        backend: ``"auto"``, or a backend of :data:`longlag.scan.BACKENDS`.
        seed: for the initial parameters: a whole number, a generator, or None for PyTorch's
            global generator.
        device, dtype: as in torch.nn.

    Raises:
        ValueError: for an unknown activation, or bounds out of order.

    Source: S. Li, W. Li, C. Cook, C. Zhu and Y. Gao, Independently recurrent neural network
    (IndRNN), CVPR 2018.

    Example:
        >>> import longlag as ll
        >>> ll.cells.IndRNN().recurrence.equations["h"]
        relu(pre.candidate + state.h*unit.diagonal.candidate)
        >>> ll.IndRNN(3, 4).weight_hh_diagonal.shape
        torch.Size([4])
    """
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: str = "relu",
        initial_low: float = 0.0,
        initial_high: float = 1.0,
        **options: Unpack[Options],
    ) -> None: ...

class LSTM1997(Recurrent):
    r"""Long short-term memory of 1997: no forget gate, the error truncated.

    .. math::
        i_t &= \sigma(U_i x_t + W_i \operatorname{sg}(h_{t-1}) + b_i) \\
        g_t &= g(U_g x_t + W_g \operatorname{sg}(h_{t-1}) + b_g) \\
        c_t &= c_{t-1} + i_t \odot g_t \\
        o_t &= \sigma(U_o x_t + W_o \operatorname{sg}(h_{t-1}) + b_o) \\
        h_t &= o_t \odot h(c_t)

    sg is the identity in the forward direction and stops the error in the backward direction:
    error that has entered a gate or the cell's input does not flow further back in time, only
    that inside the memory c does, and there it flows unchanged (the constant error carousel).

    Parameters, attributes and cost are those of :class:`~longlag.Recurrent`.

    Args:
        input_size: C, features per step; 0 for a network that runs by itself, where x is (N, T, 0).
        hidden_size: H, units.
        output_gate: whether there is an output gate o; without it h_t = h(c_t).
        recurrent: whether cell and gates read h_{t-1} at all.
        cell_input: g, an activation by name; the paper's is ``"double_bipolar"``,
            4 sigma - 2 in [-2, 2], and ``"sigmoid"`` for its experiment 2a.
        cell_output: h, by name; the paper's is ``"bipolar"``, 2 sigma - 1 in [-1, 1], and
            ``"identity"`` for its experiment 2a.
        bias: whether there are biases b.
        input_dropout: probability in [0, 1) with which an input feature is dropped, for a whole
            sequence at a time, in training.
        recurrent_dropout: the same for the state that W reads.
        weight_ih_init: how each gate's (H, C) block of U is drawn: ``"glorot"``,
            ``"orthogonal"``, ``"identity"``, ``"uniform"``, ``"normal"`` or an object of
            :mod:`longlag.init`.
        weight_hh_init: how each (H, H) matrix of W is drawn; where a pattern has no block, it is
            then set to zero.
        density: None for a dense W. Else W is sparse: a fraction in (0, 1], the share of the units
            that each unit reads, at least one, drawn anew for each; or a boolean matrix (G' H, H),
            True for the entries that are there. A step costs as many multiply-adds as there are
            entries. Glorot and orthogonal matrices are scaled by the square root of 1 / share.
        bias_init: None for the cell's own biases, or :class:`~longlag.init.Chrono`.
        dilation: d, at least 1: the update reads the states of d steps before in place of those of
            one step before. The state is then d steps deep: the declared ones, as ever, then those
            of 1 .. d - 1 steps before, as h_1, h_2.
        replicas: R independent networks in one: an R stands in front of every parameter, of x,
            of the state and of the output.
        weights: None for W as it is stored; ``"bfloat16"`` for W with each number rounded to the
            nearest of bfloat16, which has 8 bits of precision, a relative error of at most 2^-9.
            The compiled kernels keep it in 2 bytes a number for fewer than four sequences a thread,
            whose step takes as long as reading W. States and sums are of float32 as before, and so
            is the stored W: its gradient is that of the rounded one, and updates add up in it. Of
            float32 alone, dense and without a constraint. As an attribute it may be set later.
        backend: ``"auto"``, or a backend of :data:`longlag.scan.BACKENDS`.
        seed: for the initial parameters: a whole number, a generator, or None for PyTorch's
            global generator.
        device, dtype: as in torch.nn.

    Raises:
        ValueError: for an unknown activation.

    Source: S. Hochreiter and J. Schmidhuber, Long short-term memory, Neural Computation 9(8),
    1997, section 4 and appendix A.1.

    Example:
        >>> import longlag as ll
        >>> ll.cells.LSTM1997(output_gate=False).gates
        ('input', 'candidate')
        >>> net = ll.LSTM1997(101, 1, output_gate=False, recurrent=False, bias=False)
        >>> sum(parameter.numel() for parameter in net.parameters())
        202
    """
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        output_gate: bool = True,
        recurrent: bool = True,
        cell_input: str = "double_bipolar",
        cell_output: str = "bipolar",
        **options: Unpack[Options],
    ) -> None: ...

class CoRNN(Recurrent):
    r"""Coupled oscillatory network: each unit is a driven, damped oscillator.

    .. math:: \ddot y = \tanh(W y + \tilde W \dot y + U x + b) - \gamma y - \epsilon \dot y

    in steps of :math:`\Delta`, the new velocity z first and the position y with it:

    .. math::
        z_t &= z_{t-1} + \Delta \bigl(\tanh(U x_t + W y_{t-1} + \tilde W z_{t-1} + b)
            - \gamma y_{t-1} - \epsilon z_{t-1}\bigr) \\
        y_t &= y_{t-1} + \Delta z_t

    The states stay bounded, and gradients neither explode nor vanish exponentially for small steps:
    for lags of hundreds of steps and more. :math:`W` is the first H rows of ``weight_hh``,
    :math:`\tilde W` the next.

    Parameters, attributes and cost are those of :class:`~longlag.Recurrent`.

    Args:
        input_size: C, features per step; 0 for a network that runs by itself, where x is (N, T, 0).
        hidden_size: H, units.
        step: :math:`\Delta`, greater than 0. The three defaults are those of the authors' code for
            adding numbers; other tasks want others.
        gamma: what pulls a unit back, greater than 0; its frequency is about
            :math:`\Delta \sqrt\gamma` in radians a step.
        epsilon: the damping, at least 0. Without input or coupling, the steps are stable where
            :math:`\Delta^2 \gamma + 2 \Delta \epsilon < 4`.
        bias: whether there are biases b.
        input_dropout: probability in [0, 1) with which an input feature is dropped, for a whole
            sequence at a time, in training.
        recurrent_dropout: the same for the state that W reads.
        weight_ih_init: how each gate's (H, C) block of U is drawn: ``"glorot"``,
            ``"orthogonal"``, ``"identity"``, ``"uniform"``, ``"normal"`` or an object of
            :mod:`longlag.init`.
        weight_hh_init: how each (H, H) matrix of W is drawn; where a pattern has no block, it is
            then set to zero.
        density: None for a dense W. Else W is sparse: a fraction in (0, 1], the share of the units
            that each unit reads, at least one, drawn anew for each; or a boolean matrix (G' H, H),
            True for the entries that are there. A step costs as many multiply-adds as there are
            entries. Glorot and orthogonal matrices are scaled by the square root of 1 / share.
        bias_init: None for the cell's own biases, or :class:`~longlag.init.Chrono`.
        dilation: d, at least 1: the update reads the states of d steps before in place of those of
            one step before. The state is then d steps deep: the declared ones, as ever, then those
            of 1 .. d - 1 steps before, as h_1, h_2.
        replicas: R independent networks in one: an R stands in front of every parameter, of x,
            of the state and of the output.
        weights: None for W as it is stored; ``"bfloat16"`` for W with each number rounded to the
            nearest of bfloat16, which has 8 bits of precision, a relative error of at most 2^-9.
            The compiled kernels keep it in 2 bytes a number for fewer than four sequences a thread,
            whose step takes as long as reading W. States and sums are of float32 as before, and so
            is the stored W: its gradient is that of the rounded one, and updates add up in it. Of
            float32 alone, dense and without a constraint. As an attribute it may be set later.
        backend: ``"auto"``, or a backend of :data:`longlag.scan.BACKENDS`.
        seed: for the initial parameters: a whole number, a generator, or None for PyTorch's
            global generator.
        device, dtype: as in torch.nn.

    Raises:
        ValueError: for a number out of range, or numbers with which the states grow by themselves.

    Source: T. K. Rusch and S. Mishra, Coupled oscillatory recurrent neural network (coRNN): an
    accurate and (gradient) stable architecture for learning long time dependencies, ICLR 2021.

    Example:
        >>> import longlag as ll
        >>> ll.cells.CoRNN().recurrence.states
        ('y', 'z')
        >>> ll.CoRNN(3, 4).weight_hh.shape
        torch.Size([8, 4])
    """
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        step: float = 0.06,
        gamma: float = 66.0,
        epsilon: float = 15.0,
        **options: Unpack[Options],
    ) -> None: ...

class LEM(Recurrent):
    r"""Long expressive memory: two states, each of whose units has a time step of its own.

    .. math::
        u_t &= \sigma(U_u x_t + W_u y_{t-1} + b_u), \qquad
            v_t = \sigma(U_v x_t + W_v y_{t-1} + b_v) \\
        z_t &= (1 - \Delta u_t) \odot z_{t-1}
            + \Delta u_t \odot \tanh(U_z x_t + W_z y_{t-1} + b_z) \\
        y_t &= (1 - \Delta v_t) \odot y_{t-1}
            + \Delta v_t \odot \tanh(U_y x_t + W_y z_t + b_y)

    W_y reads the new z. The gates are learnt time steps of a system of differential equations, so
    that units forget at different rates, from step to step anew; the gradient neither explodes nor
    vanishes exponentially for small steps. Gates in the order u, v, z, y.

    Parameters, attributes and cost are those of :class:`~longlag.Recurrent`.

    Args:
        input_size: C, features per step; 0 for a network that runs by itself, where x is (N, T, 0).
        hidden_size: H, units.
        step: :math:`\Delta`, the longest time step, greater than 0. With at most 1, the states stay
            between -1 and 1.
        bias: whether there are biases b.
        input_dropout: probability in [0, 1) with which an input feature is dropped, for a whole
            sequence at a time, in training.
        recurrent_dropout: the same for the state that W reads.
        weight_ih_init: how each gate's (H, C) block of U is drawn: ``"glorot"``,
            ``"orthogonal"``, ``"identity"``, ``"uniform"``, ``"normal"`` or an object of
            :mod:`longlag.init`.
        weight_hh_init: how each (H, H) matrix of W is drawn; where a pattern has no block, it is
            then set to zero.
        density: None for a dense W. Else W is sparse: a fraction in (0, 1], the share of the units
            that each unit reads, at least one, drawn anew for each; or a boolean matrix (G' H, H),
            True for the entries that are there. A step costs as many multiply-adds as there are
            entries. Glorot and orthogonal matrices are scaled by the square root of 1 / share.
        bias_init: None for the cell's own biases, or :class:`~longlag.init.Chrono`.
        dilation: d, at least 1: the update reads the states of d steps before in place of those of
            one step before. The state is then d steps deep: the declared ones, as ever, then those
            of 1 .. d - 1 steps before, as h_1, h_2.
        replicas: R independent networks in one: an R stands in front of every parameter, of x,
            of the state and of the output.
        weights: None for W as it is stored; ``"bfloat16"`` for W with each number rounded to the
            nearest of bfloat16, which has 8 bits of precision, a relative error of at most 2^-9.
            The compiled kernels keep it in 2 bytes a number for fewer than four sequences a thread,
            whose step takes as long as reading W. States and sums are of float32 as before, and so
            is the stored W: its gradient is that of the rounded one, and updates add up in it. Of
            float32 alone, dense and without a constraint. As an attribute it may be set later.
        backend: ``"auto"``, or a backend of :data:`longlag.scan.BACKENDS`.
        seed: for the initial parameters: a whole number, a generator, or None for PyTorch's
            global generator.
        device, dtype: as in torch.nn.

    Raises:
        ValueError: for a step that is not a finite number greater than 0.

    Source: T. K. Rusch, S. Mishra, N. B. Erichson and M. W. Mahoney, Long expressive memory for
    sequence modeling, ICLR 2022.

    Example:
        >>> import longlag as ll
        >>> ll.cells.LEM().recurrence.states
        ('y', 'z')
        >>> ll.LEM(3, 4).weight_hh.shape
        torch.Size([16, 4])
    """
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        step: float = 1.0,
        **options: Unpack[Options],
    ) -> None: ...

class MinGRU(Recurrent):
    r"""Minimal gated unit: a gate and a candidate that see the input alone.

    .. math::
        z_t &= \sigma(U_z x_t + b_z) \\
        \tilde h_t &= g(U_h x_t + b_h) \\
        h_t &= (1 - z_t) \odot h_{t-1} + z_t \odot \tilde h_t

    It is linear in its state: a weighted mean of the candidates, which the inputs choose. There is
    no W, and the Jacobian is diagonal, so that memory over k steps is the product of k numbers
    :math:`1 - z`. With ``bias_init=ll.init.Chrono(lag)`` it starts with memories up to a lag.
    What couples the units is the next layer of a stack.

    Parameters, attributes and cost are those of :class:`~longlag.Recurrent`.

    Args:
        input_size: C, features per step; 0 for a network that runs by itself, where x is (N, T, 0).
        hidden_size: H, units.
        activation: g, as for :class:`~longlag.cells.Elman`. ``"identity"`` is the paper's plain
            form, and ``"positive"`` that of its computation in logarithms.
        bias: whether there are biases b.
        input_dropout: probability in [0, 1) with which an input feature is dropped, for a whole
            sequence at a time, in training.
        recurrent_dropout: the same for the state that W reads.
        weight_ih_init: how each gate's (H, C) block of U is drawn: ``"glorot"``,
            ``"orthogonal"``, ``"identity"``, ``"uniform"``, ``"normal"`` or an object of
            :mod:`longlag.init`.
        weight_hh_init: how each (H, H) matrix of W is drawn; where a pattern has no block, it is
            then set to zero.
        density: None for a dense W. Else W is sparse: a fraction in (0, 1], the share of the units
            that each unit reads, at least one, drawn anew for each; or a boolean matrix (G' H, H),
            True for the entries that are there. A step costs as many multiply-adds as there are
            entries. Glorot and orthogonal matrices are scaled by the square root of 1 / share.
        bias_init: None for the cell's own biases, or :class:`~longlag.init.Chrono`.
        dilation: d, at least 1: the update reads the states of d steps before in place of those of
            one step before. The state is then d steps deep: the declared ones, as ever, then those
            of 1 .. d - 1 steps before, as h_1, h_2.
        replicas: R independent networks in one: an R stands in front of every parameter, of x,
            of the state and of the output.
        weights: None for W as it is stored; ``"bfloat16"`` for W with each number rounded to the
            nearest of bfloat16, which has 8 bits of precision, a relative error of at most 2^-9.
            The compiled kernels keep it in 2 bytes a number for fewer than four sequences a thread,
            whose step takes as long as reading W. States and sums are of float32 as before, and so
            is the stored W: its gradient is that of the rounded one, and updates add up in it. Of
            float32 alone, dense and without a constraint. As an attribute it may be set later.
        backend: ``"auto"``, or a backend of :data:`longlag.scan.BACKENDS`.
        seed: for the initial parameters: a whole number, a generator, or None for PyTorch's
            global generator.
        device, dtype: as in torch.nn.

    Raises:
        ValueError: for an unknown activation.

    Source: L. Feng, F. Tung, M. O. Ahmed, Y. Bengio and H. Hajimirsadeghi, Were RNNs all we
    needed?, 2024.

    Example:
        >>> import longlag as ll
        >>> print(ll.cells.MinGRU().latex("update"))
        \begin{align*}
        a^{z}_t &= U_{z} x_t + b_{z} \\
        a^{\tilde h}_t &= U_{\tilde h} x_t + b_{\tilde h} \\
        z_t &= \sigma\left(a^{z}_t\right) \\
        h_t &= z_t \odot a^{\tilde h}_t + h_{t-1} \odot \left(1 - z_t\right)
        \end{align*}
        >>> ll.MinGRU(3, 4).weight_hh is None
        True
    """
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: str = "identity",
        **options: Unpack[Options],
    ) -> None: ...

class LRU(Recurrent):
    r"""Linear recurrent unit: each unit turns and shrinks a complex number, which is its memory.

    .. math::
        h_t = \lambda \odot h_{t-1} + \sqrt{1 - |\lambda|^2} \odot (U x_t + b), \qquad
        \lambda = \sqrt{\rho}\, e^{i \theta}

    h is complex, of the parts re and im, and so are U and b, which have rows for both; what is put
    out is re. Units do not see each other, and their memory over k steps is :math:`|\lambda|^k`,
    whatever the input. The factor before the input keeps h of one size, however long the memory.

    This is the recurrence of the paper's block. Its B is U; its C and D are a linear readout, with
    ``direct=True`` for D, and a nonlinearity between layers is to be put there too: a stack of
    these layers alone is linear. That re is read and im is not costs a unit nothing, as its B may
    turn the phase. The paper trains :math:`\log(-\log|\lambda|)` and :math:`\log \theta`, here it
    is :math:`\rho = |\lambda|^2` within (0, 1), so that no training makes it unstable, and
    :math:`\theta`; the factor before the input follows :math:`\rho`, where in the paper it starts
    so and is trained. It has no b: take ``bias=False``.

    Parameters, attributes and cost are those of :class:`~longlag.Recurrent`.

    Args:
        input_size: C, features per step; 0 for a network that runs by itself, where x is (N, T, 0).
        hidden_size: H, units.
        r_min: :math:`\lambda` starts uniform on the ring between the radii r_min and r_max, inside
            (0.001, 0.9999995). A memory of T steps wants radii up to about 1 - 1/T.
        r_max: see ``r_min``.
        max_phase: the largest :math:`\theta` at the start, in (0, :math:`2 \pi`]. Smaller ones are
            for slower signals.
        bias: whether there are biases b.
        input_dropout: probability in [0, 1) with which an input feature is dropped, for a whole
            sequence at a time, in training.
        recurrent_dropout: the same for the state that W reads.
        weight_ih_init: how each gate's (H, C) block of U is drawn: ``"glorot"``,
            ``"orthogonal"``, ``"identity"``, ``"uniform"``, ``"normal"`` or an object of
            :mod:`longlag.init`.
        weight_hh_init: how each (H, H) matrix of W is drawn; where a pattern has no block, it is
            then set to zero.
        density: None for a dense W. Else W is sparse: a fraction in (0, 1], the share of the units
            that each unit reads, at least one, drawn anew for each; or a boolean matrix (G' H, H),
            True for the entries that are there. A step costs as many multiply-adds as there are
            entries. Glorot and orthogonal matrices are scaled by the square root of 1 / share.
        bias_init: None for the cell's own biases, or :class:`~longlag.init.Chrono`.
        dilation: d, at least 1: the update reads the states of d steps before in place of those of
            one step before. The state is then d steps deep: the declared ones, as ever, then those
            of 1 .. d - 1 steps before, as h_1, h_2.
        replicas: R independent networks in one: an R stands in front of every parameter, of x,
            of the state and of the output.
        weights: None for W as it is stored; ``"bfloat16"`` for W with each number rounded to the
            nearest of bfloat16, which has 8 bits of precision, a relative error of at most 2^-9.
            The compiled kernels keep it in 2 bytes a number for fewer than four sequences a thread,
            whose step takes as long as reading W. States and sums are of float32 as before, and so
            is the stored W: its gradient is that of the rounded one, and updates add up in it. Of
            float32 alone, dense and without a constraint. As an attribute it may be set later.
        backend: ``"auto"``, or a backend of :data:`longlag.scan.BACKENDS`.
        seed: for the initial parameters: a whole number, a generator, or None for PyTorch's
            global generator.
        device, dtype: as in torch.nn.

    Raises:
        ValueError: for a number out of range.

    Source: A. Orvieto, S. L. Smith, A. Gu, A. Fernando, C. Gulcehre, R. Pascanu and S. De,
    Resurrecting recurrent neural networks for long sequences, ICML 2023.

    Example:
        >>> import longlag as ll
        >>> layer = ll.LRU(3, 4, r_min=0.5, r_max=0.9)
        >>> layer.weight_ih.shape, layer.decay_raw.shape, layer.angle.shape
        (torch.Size([8, 3]), torch.Size([4]), torch.Size([4]))
        >>> bool(((layer.unit("decay") >= 0.25) & (layer.unit("decay") <= 0.81)).all())
        True
    """
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        r_min: float = 0.9,
        r_max: float = 0.999,
        max_phase: float = 6.283185307179586,
        **options: Unpack[Options],
    ) -> None: ...

class Antisymmetric(Recurrent):
    r"""Antisymmetric network: small steps of a differential equation that neither grows nor decays.

    .. math::
        h_t = h_{t-1} + \epsilon \tanh\bigl((W - W^\top - \gamma I) h_{t-1} + U x_t + b\bigr)

    The eigenvalues of an antisymmetric matrix are imaginary, so that the state turns, and error
    that flows back keeps its size over many steps; the diffusion makes up for what a step of finite
    length adds. For long lags, with few parameters. ``weight_hh_raw`` is W, which is trained, and
    ``weight_hh`` is :math:`W - W^\top`.

    Parameters, attributes and cost are those of :class:`~longlag.Recurrent`.

    Args:
        input_size: C, features per step; 0 for a network that runs by itself, where x is (N, T, 0).
        hidden_size: H, units.
        step: :math:`\epsilon`, greater than 0. The paper searches both numbers for each task.
        diffusion: :math:`\gamma`, at least 0.
        bias: whether there are biases b.
        input_dropout: probability in [0, 1) with which an input feature is dropped, for a whole
            sequence at a time, in training.
        recurrent_dropout: the same for the state that W reads.
        weight_ih_init: how each gate's (H, C) block of U is drawn: ``"glorot"``,
            ``"orthogonal"``, ``"identity"``, ``"uniform"``, ``"normal"`` or an object of
            :mod:`longlag.init`.
        weight_hh_init: how each (H, H) matrix of W is drawn; where a pattern has no block, it is
            then set to zero.
        density: None for a dense W. Else W is sparse: a fraction in (0, 1], the share of the units
            that each unit reads, at least one, drawn anew for each; or a boolean matrix (G' H, H),
            True for the entries that are there. A step costs as many multiply-adds as there are
            entries. Glorot and orthogonal matrices are scaled by the square root of 1 / share.
        bias_init: None for the cell's own biases, or :class:`~longlag.init.Chrono`.
        dilation: d, at least 1: the update reads the states of d steps before in place of those of
            one step before. The state is then d steps deep: the declared ones, as ever, then those
            of 1 .. d - 1 steps before, as h_1, h_2.
        replicas: R independent networks in one: an R stands in front of every parameter, of x,
            of the state and of the output.
        weights: None for W as it is stored; ``"bfloat16"`` for W with each number rounded to the
            nearest of bfloat16, which has 8 bits of precision, a relative error of at most 2^-9.
            The compiled kernels keep it in 2 bytes a number for fewer than four sequences a thread,
            whose step takes as long as reading W. States and sums are of float32 as before, and so
            is the stored W: its gradient is that of the rounded one, and updates add up in it. Of
            float32 alone, dense and without a constraint. As an attribute it may be set later.
        backend: ``"auto"``, or a backend of :data:`longlag.scan.BACKENDS`.
        seed: for the initial parameters: a whole number, a generator, or None for PyTorch's
            global generator.
        device, dtype: as in torch.nn.

    Raises:
        ValueError: for a number out of range.

    Source: B. Chang, M. Chen, E. Haber and E. H. Chi, AntisymmetricRNN: a dynamical system view on
    recurrent neural networks, ICLR 2019; without its gate.

    Example:
        >>> import longlag as ll
        >>> print(ll.cells.Antisymmetric().latex("update"))
        \begin{align*}
        W^\top &= -W \\
        a_t &= U x_t + W h_{t-1} + b \\
        h_t &= h_{t-1} + \epsilon \odot \tanh{\left(a_t - h_{t-1} \odot \gamma \right)}
        \end{align*}
        >>> W = ll.Antisymmetric(3, 4).weight_hh
        >>> bool((W == -W.T).all())
        True
    """
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        step: float = 0.1,
        diffusion: float = 0.01,
        **options: Unpack[Options],
    ) -> None: ...
