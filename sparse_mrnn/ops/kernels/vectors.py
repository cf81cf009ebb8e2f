"""Sums over the synapses of a row that stay in the registers of the processor, written in LLVM's language.

A loop over the columns of an array whose number is not known when numba compiles it loads and stores its sums
for each synapse, and checks again and again how many columns there are. Here columns are taken in tiles of a
fixed width, which are vectors to LLVM, whatever the processor's own are.

numba's cache on disk goes by the files of the loops that use them: after a change here, delete it.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

INDEX, BITS = ir.IntType(64), ir.IntType(32)
FUSED = ("contract", "nsz")
"""A product and a sum may be rounded once; the order of sums is as written."""
AHEAD = 16
"""Synapses ahead of which the rows of their sources are asked for."""
FETCHED = 16
"""Columns from which on rows are asked for; for fewer it costs more than it gains; measured."""
LINE = 64
"""Bytes of a cache line."""


class Rows:
    """Rows of arrays in LLVM's language: the parts that the sums below have in common.

    Parameters
    ----------
    context, builder, signature, arguments
        As numba gives them to an intrinsic; the arguments that are arrays come first.
    arrays : sequence of str
        Their names. The entries of a row lie side by side; rows may lie apart.
    """

    def __init__(self, context, builder, signature, arguments, arrays) -> None:
        self.builder = builder
        self.rest = arguments[len(arrays) :]
        self.data, self.last, self.columns, self.apart = {}, {}, {}, {}
        for name, kind, value in zip(arrays, signature.args, arguments, strict=False):
            array = context.make_array(kind)(context, builder, value)
            self.data[name] = array.data
            self.last[name] = builder.sub(builder.extract_value(array.shape, 0), ir.Constant(INDEX, 1))
            if kind.ndim == 2:
                self.columns[name] = builder.extract_value(array.shape, 1)
                size = ir.Constant(INDEX, size_of(array.data.type.pointee))
                self.apart[name] = builder.sdiv(builder.extract_value(array.strides, 0), size)

    def index(self, name: str, at: Any) -> Any:
        """Read a whole number."""
        found = self.builder.load(self.builder.gep(self.data[name], [at]))
        return found if found.type == INDEX else self.builder.sext(found, INDEX)

    def number(self, name: str, at: Any) -> Any:
        return self.builder.load(self.builder.gep(self.data[name], [at]))

    def place(self, name: str, row: Any, column: Any) -> Any:
        """Return a pointer to an entry of an array of two dimensions."""
        at = self.builder.add(self.builder.mul(row, self.apart[name]), column)
        return self.builder.gep(self.data[name], [at])

    def load(self, pointer: Any, width: int, mask: Any = None) -> Any:
        """Read a vector, aligned as its entries are; where a mask has not an entry, it is 0."""
        entry = pointer.type.pointee
        kind = ir.VectorType(entry, width)
        where = self.builder.bitcast(pointer, kind.as_pointer())
        if mask is None:
            vector = self.builder.load(where)
            vector.align = size_of(entry)
            return vector
        align, zero, name = ir.Constant(BITS, size_of(entry)), ir.Constant(kind, [0.0] * width), name_of(kind)
        return self.call(f"llvm.masked.load.{name}.p0{name}", kind, where, align, mask, zero)

    def store(self, vector: Any, pointer: Any, mask: Any = None) -> None:
        """Write a vector, or the entries that a mask has."""
        kind = vector.type
        where = self.builder.bitcast(pointer, kind.as_pointer())
        if mask is None:
            self.builder.store(vector, where).align = size_of(kind.element)
            return
        align, name = ir.Constant(BITS, size_of(kind.element)), name_of(kind)
        self.call(f"llvm.masked.store.{name}.p0{name}", ir.VoidType(), vector, where, align, mask)

    def call(self, name: str, returned: Any, *arguments: Any) -> Any:
        """Call a function of LLVM's."""
        module, kind = self.builder.module, ir.FunctionType(returned, [a.type for a in arguments])
        return self.builder.call(module.globals.get(name) or ir.Function(module, kind, name), arguments)

    def first(self, count: Any, width: int) -> Any:
        """Return a mask of the first ``count`` entries of a vector."""
        places = ir.Constant(ir.VectorType(INDEX, width), list(range(width)))
        return self.builder.icmp_signed("<", places, self.splat(count, width))

    def splat(self, number: Any, width: int) -> Any:
        """Return a vector of one number."""
        none = ir.Constant(ir.VectorType(number.type, width), ir.Undefined)
        first = self.builder.insert_element(none, number, ir.Constant(BITS, 0))
        return self.shuffle(first, none, [0] * width)

    def shuffle(self, first: Any, second: Any, places: list[int]) -> Any:
        order = ir.Constant(ir.VectorType(BITS, len(places)), places)
        return self.builder.shuffle_vector(first, second, order)

    def multiply_add(self, a: Any, b: Any, to: Any) -> Any:
        return self.builder.fadd(self.builder.fmul(a, b, flags=FUSED), to, flags=FUSED)

    def ahead(self, name: str, at: Any) -> Any:
        """Return the number of the entry `AHEAD` entries later, or of the last one."""
        later, last = self.builder.add(at, ir.Constant(INDEX, AHEAD)), self.last[name]
        return self.builder.select(self.builder.icmp_signed("<", later, last), later, last)

    def ask_for(self, pointer: Any, width: int) -> None:
        """Have the cache fetch a row before it is needed."""
        byte = ir.IntType(8).as_pointer()
        for k in range(0, width, LINE // size_of(pointer.type.pointee)):
            line = self.builder.bitcast(self.builder.gep(pointer, [ir.Constant(INDEX, k)]), byte)
            flags = (ir.Constant(BITS, flag) for flag in (0, 3, 1))  # to read, keep in all caches, data
            self.call("llvm.prefetch.p0i8", ir.VoidType(), line, *flags)

    def repeat(self, start: Any, stop: Any, by: int, sums: list[Any], body: Any) -> tuple[Any, list[Any]]:
        """Take ``by`` synapses at a time from ``start`` on while as many are left.

        ``body`` takes the number of the first synapse and the sums, and returns new sums. Returns the number
        of the synapse that comes next, and the sums.
        """
        b, before = self.builder, self.builder.block
        head, inside, after = (b.function.append_basic_block() for _ in range(3))
        b.branch(head)
        b.position_at_end(head)
        at = b.phi(INDEX)
        at.add_incoming(start, before)
        held = [b.phi(s.type) for s in sums]
        for phi, s in zip(held, sums, strict=True):
            phi.add_incoming(s, before)
        following = b.add(at, ir.Constant(INDEX, by))
        b.cbranch(b.icmp_signed("<=", following, stop), inside, after)
        b.position_at_end(inside)
        for phi, s in zip(held, body(at, held), strict=True):
            phi.add_incoming(s, b.block)
        at.add_incoming(following, b.block)
        b.branch(head)
        b.position_at_end(after)
        return at, held


def size_of(entry: Any) -> int:
    """Return the bytes of a float of LLVM."""
    return 4 if isinstance(entry, ir.FloatType) else 8


def name_of(vector: Any) -> str:
    """Return the name of a type of vectors within the names of LLVM's functions."""
    return f"v{vector.count}f{8 * size_of(vector.element)}"


def weighted_rows(width: int, together: int, *, some: bool = False, differences: bool = False):
    """Make y[i, c : c + width] = beta y + alpha sum_e values[e] h[col[e]], over e from start to stop.

    ``together`` synapses have a sum each, so that none waits for the one before. With ``some``, the columns
    from c on are fewer than ``width``. With ``differences``, h[col[e]] - h[i] takes the place of h[col[e]].
    """

    @intrinsic
    def add(_, col, values, h, y, row, start, stop, c, beta, alpha):
        def generate(context, builder, signature, arguments):
            rows = Rows(context, builder, signature, arguments, ("col", "values", "h", "y"))
            row, start, stop, c, beta, alpha = rows.rest
            mask = rows.first(builder.sub(rows.columns["y"], c), width) if some else None
            own = rows.load(rows.place("h", row, c), width, mask) if differences else None

            def synapse(e, to):
                if width >= FETCHED:
                    rows.ask_for(rows.place("h", rows.index("col", rows.ahead("col", e)), c), width)
                source = rows.load(rows.place("h", rows.index("col", e), c), width, mask)
                if differences:
                    source = builder.fsub(source, own)
                return rows.multiply_add(rows.splat(rows.number("values", e), width), source, to)

            def several(e, sums):
                return [synapse(builder.add(e, ir.Constant(INDEX, k)), s) for k, s in enumerate(sums)]

            zero = ir.Constant(ir.VectorType(beta.type, width), [0.0] * width)
            e, sums = rows.repeat(start, stop, together, [zero] * together, several)
            _, (total,) = rows.repeat(e, stop, 1, sums[:1], several)
            for s in sums[1:]:
                total = builder.fadd(total, s, flags=FUSED)
            total = builder.fmul(rows.splat(alpha, width), total)
            out = rows.place("y", row, c)
            fresh, keep, write = builder.block, *(builder.function.append_basic_block() for _ in range(2))
            builder.cbranch(builder.fcmp_unordered("==", beta, ir.Constant(beta.type, 0.0)), write, keep)
            builder.position_at_end(keep)
            kept = rows.multiply_add(rows.splat(beta, width), rows.load(out, width, mask), total)
            builder.branch(write)
            builder.position_at_end(write)
            result = builder.phi(total.type)
            result.add_incoming(total, fresh)
            result.add_incoming(kept, keep)
            rows.store(result, out, mask)
            return context.get_dummy_value()

        whole = types.int64
        return types.void(col, values, h, y, whole, whole, whole, whole, beta, alpha), generate

    return add


def row_products(width: int, lanes: int, *, some: bool = False, differences: bool = False):
    """Make grad[e] += sum_k g[i, k] h[col[e], k], over e from start to stop and k from c to c + width.

    With ``differences`` it is sum_k (g[i, k] - g[col[e], k]) (h[col[e], k] - h[i, k]).

    Four synapses at a time; ``lanes`` columns are a vector. With ``some``, the columns from c on are fewer
    than ``width``, which is ``lanes``.
    """

    @intrinsic
    def add(_, col, g, h, grad, row, start, stop, c):
        def generate(context, builder, signature, arguments):
            rows = Rows(context, builder, signature, arguments, ("col", "g", "h", "grad"))
            row, start, stop, c = rows.rest
            mask = rows.first(builder.sub(rows.columns["g"], c), width) if some else None
            own, before = rows.place("g", row, c), rows.place("h", row, c) if differences else None
            zero = ir.Constant(ir.VectorType(own.type.pointee, lanes), [0.0] * lanes)

            def several(e, count):
                places, theirs = [], []
                for n in range(count):
                    synapse = builder.add(e, ir.Constant(INDEX, n))
                    for name in ("h", "g") if differences else ("h",):
                        if width >= FETCHED:
                            later = rows.index("col", rows.ahead("col", synapse))
                            rows.ask_for(rows.place(name, later, c), width)
                    places.append(rows.place("h", rows.index("col", synapse), c))
                    if differences:
                        theirs.append(rows.place("g", rows.index("col", synapse), c))
                sums = [zero] * count
                for k in range(0, width, lanes):
                    at = [ir.Constant(INDEX, k)]
                    factor = rows.load(builder.gep(own, at), lanes, mask)
                    parts = [rows.load(builder.gep(place, at), lanes, mask) for place in places]
                    factors = [factor] * count
                    if differences:
                        state = rows.load(builder.gep(before, at), lanes, mask)
                        parts = [builder.fsub(part, state) for part in parts]
                        others = (rows.load(builder.gep(place, at), lanes, mask) for place in theirs)
                        factors = [builder.fsub(factor, other) for other in others]
                    sums = [rows.multiply_add(*each) for each in zip(factors, parts, sums, strict=True)]
                out = builder.gep(rows.data["grad"], [e])
                rows.store(builder.fadd(rows.load(out, count), joined(rows, sums)), out)
                return []

            e, _ = rows.repeat(start, stop, 4, [], lambda e, _: several(e, 4))
            rows.repeat(e, stop, 1, [], lambda e, _: several(e, 1))
            return context.get_dummy_value()

        whole = types.int64
        return types.void(col, g, h, grad, whole, whole, whole, whole), generate

    return add


def joined(rows: Rows, vectors: list[Any]) -> Any:
    """Return a vector with the sum of the entries of each vector; their number and length are powers of 2."""
    parts = vectors[0].type.count

    def added(first: Any, second: Any, low: list[int], high: list[int]) -> Any:
        pair = rows.shuffle(first, second, low), rows.shuffle(first, second, high)
        return rows.builder.fadd(*pair, flags=FUSED)

    while parts > len(vectors):  # the upper half of each onto its lower
        parts //= 2
        vectors = [added(v, v, list(range(parts)), list(range(parts, 2 * parts))) for v in vectors]
    while parts > 1:  # neighbours, of two vectors at a time
        parts //= 2
        both = range(2 * vectors[0].type.count)
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [added(a, b, list(both[::2]), list(both[1::2])) for a, b in pairs]
    while len(vectors) > 1:
        both = range(2 * vectors[0].type.count)
        vectors = [rows.shuffle(a, b, list(both)) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
    return vectors[0]
