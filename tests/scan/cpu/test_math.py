"""The compiled pointwise functions against float64 NumPy, mpmath and PyTorch."""

import ctypes
import re
from functools import cache

import mpmath
import numpy as np
import pytest
import torch
from llvmlite import binding, ir

from longlag.recurrence.program import ARITY, Operation, Program
from longlag.scan.cpu import math, math_values, target
from longlag.scan.cpu.math_circular import CIRCULARS
from longlag.scan.cpu.math_exponential import EXPONENTIALS
from longlag.scan.cpu.math_logarithm import LOGARITHMS
from longlag.scan.cpu.math_values import constant, splat
from longlag.scan.programs import run_program

NAMES = [name for name in ARITY if name != "constant"]
ELEMENTS = {np.float32: ir.FloatType(), np.float64: ir.DoubleType()}
DTYPES = pytest.mark.parametrize("dtype", list(ELEMENTS))
SCALAR = 0
"""The width that stands for a scalar type, in place of a vector."""


def loop(module, name, dtype, width):
    """Add ``name(a, b, out, count)`` to a module: one operation over arrays, a vector at a time."""
    element = ELEMENTS[dtype]
    vector = ir.VectorType(element, width) if width else element
    integer = ir.IntType(64)
    signature = ir.FunctionType(ir.VoidType(), [vector.as_pointer()] * 3 + [integer])
    function = ir.Function(module, signature, f"apply_{name}")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    entry = builder.block
    body, done = (function.append_basic_block(each) for each in ("body", "done"))
    builder.branch(body)
    builder.position_at_end(body)
    index = builder.phi(integer)
    index.add_incoming(ir.Constant(integer, 0), entry)
    align = np.dtype(dtype).itemsize
    *sources, target = (builder.gep(each, [index]) for each in function.args[:3])
    arguments = [builder.load(each, align=align) for each in sources[: ARITY[name]]]
    builder.store(math.emit(builder, name, *arguments), target, align=align)
    following = builder.add(index, ir.Constant(integer, 1))
    index.add_incoming(following, body)
    builder.cbranch(builder.icmp_signed("<", following, function.args[3]), body, done)
    builder.position_at_end(done)
    builder.ret_void()


def optimise(module, machine, level=3):
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    options = binding.create_pipeline_tuning_options(speed_level=level)
    builder = binding.create_pass_builder(machine, options)
    builder.getModulePassManager().run(parsed, builder)
    return parsed


@cache
def engine(names, dtype, width, level=3):
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    machine = binding.Target.from_triple(binding.get_process_triple()).create_target_machine(
        cpu=binding.get_host_cpu_name(),
        features=binding.get_host_cpu_features().flatten(),
        opt=level,
    )
    module = ir.Module()
    module.triple = binding.get_process_triple()
    for name in names:
        loop(module, name, dtype, width)
    result = binding.create_mcjit_compiler(optimise(module, machine, level), machine)
    result.finalize_object()
    return result


def apply(name, *arrays, width=8, names=None, level=3):
    """The compiled operation on arrays of one type, padded to whole vectors."""
    dtype = arrays[0].dtype.type
    address = engine(names or (name,), dtype, width, level).get_function_address(f"apply_{name}")
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64)(address)
    count = len(arrays[0])
    lanes = max(width, 1)
    blocks = -(-count // lanes)
    padded = [np.resize(array, blocks * lanes) for array in arrays]
    out = np.empty(blocks * lanes, dtype)
    call(padded[0].ctypes.data, padded[-1].ctypes.data, out.ctypes.data, blocks)
    return out[:count]


def by_torch(name, *arrays):
    """The same operation as the reference backend runs it."""
    numbers = tuple(range(len(arrays)))
    program = Program(("a", "b")[: len(arrays)], (Operation(name, numbers),), (len(arrays),))
    return run_program(program, [torch.from_numpy(each) for each in arrays])[0].numpy()


def place(x):
    """The number of a float32 in the order of all of them, so that neighbours differ by 1."""
    bits = x.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def magnitudes(dtype, largest, count, generator, smallest=None):
    """Numbers of both signs, spread evenly and by their logarithm, up to ``largest``."""
    even = generator.uniform(-largest, largest, count)
    low = np.log2(float(np.finfo(dtype).smallest_subnormal if smallest is None else smallest))
    spread = np.exp2(generator.uniform(low, np.log2(largest), count))
    near = np.exp2(generator.uniform(-14, 3.5, count))
    signs = generator.choice([-1, 1], 2 * count)
    return np.concatenate([even, signs * np.concatenate([spread, near])]).astype(dtype)


def sigmoid64(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


# name: (function in float64, largest argument, largest distance from the correctly rounded value)
SINGLE = {
    "tanh": (np.tanh, 12, 3),
    "sigmoid": (sigmoid64, 110, 2),
    "exp": (np.exp, 95, 1),
    "log": (np.log, 3e38, 1),
    "sin": (np.sin, 1e4, 2),
    "cos": (np.cos, 1e4, 2),
}


@pytest.mark.parametrize("name", SINGLE)
def test_float32_is_the_correctly_rounded_value_or_next_to_it(name):
    function, largest, distance = SINGLE[name]
    x = magnitudes(np.float32, largest, 300_000, np.random.default_rng(1))
    if name == "log":
        x = np.abs(x)
    if name in ("sin", "cos"):
        zeros = np.arange(6000) * np.pi / 2
        x = np.concatenate([x, zeros.astype(np.float32)])
    with np.errstate(divide="ignore", over="ignore", under="ignore"):
        expected = function(x.astype(np.float64)).astype(np.float32)
    result = apply(name, x)
    if name == "sigmoid":  # below the normal numbers it is some such number
        tiny = expected < np.finfo(np.float32).tiny
        assert result[tiny].min() >= 0
        assert result[tiny].max() <= np.finfo(np.float32).tiny
        result, expected = result[~tiny], expected[~tiny]
    assert np.abs(place(result) - place(expected)).max() <= distance


# name: (function of mpmath, largest argument, largest error in ulp)
DOUBLE = {
    "tanh": (mpmath.tanh, 22, 2.8),
    "sigmoid": (lambda x: 1 / (1 + mpmath.exp(-x)), 750, 2.4),
    "exp": (mpmath.exp, 709, 1.1),
    "log": (mpmath.log, 8e307, 0.9),
    "sin": (mpmath.sin, 1e4, 1.6),
    "cos": (mpmath.cos, 1e4, 1.6),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DOUBLE)
def test_float64_is_within_its_stated_error(name):
    function, largest, bound = DOUBLE[name]
    x = magnitudes(np.float64, largest, 2000, np.random.default_rng(2), smallest=1e-300)
    if name == "log":
        x = np.concatenate([np.abs(x), 1 + x[np.abs(x) < 0.5], [5e-324, 1e-310]])
    if name == "exp":
        x = np.concatenate([x, np.linspace(-745, -700, 500)])
    if name == "sigmoid":  # below the normal numbers it is some such number
        x = np.concatenate([np.maximum(x, -708), np.linspace(-708, -690, 500)])
    result = apply(name, x)
    with mpmath.workdps(40):
        exact = [function(mpmath.mpf(each)) for each in x.tolist()]
        units = np.spacing(np.abs(np.array([float(each) for each in exact])))
        errors = [
            float(abs(mpmath.mpf(got) - right) / unit)
            for got, right, unit in zip(result.tolist(), exact, units.tolist(), strict=True)
        ]
    assert max(errors) <= bound


@pytest.mark.parametrize("name", ["sin", "cos"])
@pytest.mark.parametrize(("dtype", "largest"), [(np.float32, 1e5), (np.float64, 1e12)])
def test_large_arguments_of_sin_and_cos(name, dtype, largest):
    x = np.random.default_rng(3).uniform(-largest, largest, 500).astype(dtype)
    with mpmath.workdps(40):
        exact = np.array([float(getattr(mpmath, name)(each)) for each in x.tolist()])
    assert np.abs(apply(name, x) - exact).max() <= np.finfo(dtype).eps


@DTYPES
@pytest.mark.parametrize("name", ["sin", "cos"])
def test_huge_arguments_of_sin_and_cos_stay_bounded(name, dtype):
    largest = np.finfo(dtype).max
    x = np.append(np.geomspace(1, largest / 8, 100_000, dtype=dtype), [largest, -largest])
    assert np.abs(apply(name, x)).max() <= 1


@DTYPES
@pytest.mark.parametrize("name", NAMES)
def test_corners_are_those_of_torch(name, dtype):
    info = np.finfo(dtype)
    tiny = [info.tiny, info.smallest_subnormal, info.tiny * 0.75]
    corners = [0.0, *tiny, 0.5, 1.0, 2.0, 20.0, 80.0, info.max, np.inf]
    x = np.array([*corners, *(-each for each in corners), np.nan, -np.nan], dtype)
    if name in ("sin", "cos"):
        x = x[~(np.abs(x) == info.max)]
    y = np.roll(x, 5)
    arrays = [x, y][: ARITY[name]]
    result = apply(name, *arrays)
    expected = by_torch(name, *arrays)
    near = info.tiny if name == "sigmoid" else info.smallest_subnormal
    np.testing.assert_allclose(result, expected, rtol=3 * info.eps, atol=near)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(result[numbers]), np.signbit(expected[numbers]))


@DTYPES
def test_exact_operations_are_exact(dtype):
    x, y = np.random.default_rng(4).normal(size=(2, 1000)).astype(dtype) * 3
    for name in (
        "add",
        "sub",
        "mul",
        "div",
        "neg",
        "abs",
        "sign",
        "relu",
        "saturate",
        "step",
        "floor",
    ):
        arrays = [x, y][: ARITY[name]]
        expected = by_torch(name, *arrays)
        np.testing.assert_array_equal(apply(name, *arrays), expected)
    np.testing.assert_array_equal(apply("sqrt", np.abs(x)), np.sqrt(np.abs(x)))
    np.testing.assert_array_equal(apply("stop_gradient", x), x)


@pytest.mark.slow
@DTYPES
@pytest.mark.parametrize("width", [SCALAR, 1, 2, 4, 16])
def test_every_width_gives_the_same_bits(width, dtype):
    x = magnitudes(dtype, 50, 16, np.random.default_rng(5), smallest=1e-30)
    x[::17] = [0.0, np.inf, np.nan][: len(x[::17])]
    for name in NAMES:
        arrays = [x, x[::-1].copy()][: ARITY[name]]
        result = apply(name, *arrays, width=width, names=tuple(NAMES), level=1)
        expected = apply(name, *arrays, width=8, names=tuple(NAMES), level=1)
        np.testing.assert_array_equal(result, expected, err_msg=name)


@DTYPES
def test_results_stay_in_their_range_and_rise(dtype):
    x = np.linspace(-120, 120, 1_000_001).astype(dtype)
    eps = np.finfo(dtype).eps
    for name, low, high in (("tanh", -1, 1), ("sigmoid", 0, 1), ("exp", 0, np.inf)):
        y = apply(name, x)
        assert y.min() >= low, name
        assert y.max() <= high, name
        y = y[np.isfinite(y)]
        assert np.all(y[1:] >= y[:-1] - 4 * eps * np.abs(y[:-1])), name
    np.testing.assert_array_equal(apply("tanh", -x), -apply("tanh", x))


@pytest.mark.parametrize(
    ("triple", "cpu"), [("x86_64-unknown-linux-gnu", "haswell"), ("aarch64-linux-gnu", "generic")]
)
def test_no_function_is_called_and_nothing_branches(triple, cpu, monkeypatch):
    monkeypatch.setattr(math_values, "host", lambda: target.Host(cpu, "", 32, 16, True, False))
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    try:
        known = binding.Target.from_triple(triple)
    except RuntimeError:
        pytest.skip(f"this LLVM does not know {triple}")
    machine = known.create_target_machine(cpu=cpu, opt=3)
    for dtype in ELEMENTS:
        module = ir.Module()
        module.triple = triple
        for name in NAMES:
            loop(module, name, dtype, 16 // np.dtype(dtype).itemsize)
            assert len(module.get_global(f"apply_{name}").blocks) == 3, name
        assembly = machine.emit_assembly(optimise(module, machine, level=1))
        assert "apply_tanh" in assembly
        assert not re.search(r"^\s+(callq?|bl)\s", assembly, re.MULTILINE)


def polynomial(coefficients, x):
    return mpmath.polyval([mpmath.mpf(each) for each in reversed(coefficients)], x)


@pytest.mark.parametrize(
    ("bits", "bounds"),
    [(32, (1.4e-8, 8.2e-10, 4.0e-9, 1.1e-10)), (64, (2.0e-17, 1.3e-18, 3.8e-18, 5.2e-20))],
)
def test_polynomials_have_the_stated_errors(bits, bounds):
    q, series = EXPONENTIALS[bits].q, LOGARITHMS[bits].series
    sine, cosine = CIRCULARS[bits].sine, CIRCULARS[bits].cosine
    with mpmath.workdps(40):
        worst = [mpmath.mpf(0)] * 4
        for fraction in np.linspace(-1, 1, 400).tolist():
            r = fraction * mpmath.log(2) / 2
            s = fraction * (mpmath.sqrt(2) - 1) / (mpmath.sqrt(2) + 1)
            a = fraction * mpmath.pi / 4
            z, c = s * s, a * a
            errors = (
                (r + r * r * polynomial(q, r) - mpmath.expm1(r)) / r,
                (s * (2 + z * polynomial(series, z)) - 2 * mpmath.atanh(s)) / (2 * s),
                (a + a * c * polynomial(sine, c) - mpmath.sin(a)) / a,
                1 - c / 2 + c * c * polynomial(cosine, c) - mpmath.cos(a),
            )
            worst = [max(old, abs(new)) for old, new in zip(worst, errors, strict=True)]
    for error, bound in zip(worst, bounds, strict=True):
        assert error <= bound


def test_splat_and_constant():
    vector = ir.VectorType(ir.FloatType(), 4)
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(vector, [ir.FloatType()]), "f")
    builder = ir.IRBuilder(function.append_basic_block())
    same = splat(builder, function.args[0], vector)
    builder.ret(math.emit(builder, "add", same, constant(vector, 0.1)))
    assert same.type == vector
    assert splat(builder, function.args[0], ir.FloatType()) is function.args[0]
    binding.parse_assembly(str(module)).verify()


def test_wrong_calls_are_refused():
    kinds = [ir.FloatType(), ir.DoubleType(), ir.IntType(32)]
    function = ir.Function(ir.Module(), ir.FunctionType(ir.VoidType(), kinds), "f")
    builder = ir.IRBuilder(function.append_basic_block())
    single, double, whole = function.args
    with pytest.raises(ValueError, match="there is no operation 'constant'"):
        math.emit(builder, "constant")
    with pytest.raises(ValueError, match="add takes 2"):
        math.emit(builder, "add", single)
    with pytest.raises(TypeError, match="one type"):
        math.emit(builder, "add", single, double)
    with pytest.raises(TypeError, match="i32"):
        math.emit(builder, "tanh", whole)
