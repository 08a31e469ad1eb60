"""Packing the recurrent matrix as the kernels read it: units of a tile side by side."""

from llvmlite import ir

from longlag.scan.cpu.builder import I64, Code
from longlag.scan.cpu.plan import Plan

__all__ = ["NAME", "emit"]

NAME = "longlag_pack"


def emit(plan: Plan, send_back: bool) -> str:
    """NAME(parameters) as LLVM IR.

    ``parameters`` is an array of 64-bit numbers: addresses of W and of what is packed, their
    strides by replica in bytes, the replicas, H, the number of blocks of rows of W that are packed,
    and their numbers. From W (rows, H, H) it makes (blocks of units, rows, k, units): the weights
    from number k to the units, or for what is sent back from the units to number k.
    """
    module = ir.Module(NAME)
    kind = ir.FunctionType(ir.VoidType(), [I64.as_pointer()])
    code = Code(ir.Function(module, kind, NAME), plan.double, plan.lanes)
    b, (parameters,) = code.b, code.function.args

    def parameter(index: int) -> ir.Instruction:
        return b.load(b.gep(parameters, [code.i64(index)]))

    source, target, source_r, target_r, replicas, hidden, wires = map(parameter, range(7))
    zero, blocks = code.i64(0), b.sdiv(code.plus(hidden, plan.units - 1), code.i64(plan.units))
    square = code.times(hidden, hidden)
    with code.loop(zero, replicas) as r, code.loop(zero, blocks) as block:
        matrix = b.inttoptr(code.plus(source, code.times(r, source_r)), code.pointer)
        packed = b.inttoptr(code.plus(target, code.times(r, target_r)), code.pointer)
        with code.loop(zero, wires) as number, code.loop(zero, code.i64(plan.vectors)) as v:
            wire = b.load(b.gep(parameters, [code.plus(number, 7)]))
            lane = code.times(v, plan.lanes)
            start = code.smaller(
                code.plus(code.times(block, plan.units), lane), code.plus(hidden, -plan.lanes)
            )
            here = code.plus(code.times(block, wires), number)
            here = code.plus(code.times(code.times(here, hidden), plan.units), lane)
            there = code.times(wire, square)
            if send_back:
                with code.loop(zero, hidden) as k:
                    row = code.plus(there, code.plus(code.times(k, hidden), start))
                    to = code.plus(here, code.times(k, plan.units))
                    code.store(code.load(code.at(matrix, row)), code.at(packed, to))
            else:
                with code.loop(zero, code.i64(plan.lanes)) as unit, code.loop(zero, hidden) as k:
                    row = code.times(code.plus(start, unit), hidden)
                    value = b.load(code.at(matrix, there, row, k))
                    to = code.plus(here, code.times(k, plan.units))
                    b.store(value, code.at(packed, to, unit))
    b.ret_void()
    return str(module)
