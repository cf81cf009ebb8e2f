"""Compile the kernels in Triton for GPUs that need not be here: registers of a thread, and bytes that spill.

    python benchmarks/compile_triton.py

It needs triton, which has the compiler of NVIDIA's assembly, and no driver.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import arguments, table_head, table_row

CAPABILITIES = {80: "A100", 90: "H100, H200"}
USED = "REG", "STACK", "LOCAL"
"""Registers of a thread, and the memory that it puts into when they do not suffice."""
INDEX, VALUES = "*i32", {"float32": "*fp32", "float64": "*fp64"}


def cases() -> Iterator[tuple[str, Any, dict[str, str], dict[str, Any]]]:
    """Name, kernel, types of its arguments and constants, of what a network runs at 1 and 32 trials."""
    from sparse_mrnn.ops import triton_kernels as kernels

    for dtype, value in VALUES.items():
        matrix = {"crow": INDEX, "col": INDEX, "values": value, "h": value}
        for batch in (1, 32):
            blocks = kernels.blocks(100 * 20_000, 20_000, batch)
            more = {"rate": value, "tonic": value, "activity": value, "n_rows": "i32", "batch": "i32"}
            types = {"y": value, **matrix, **more}
            plain = blocks | {"BETA": 0.9, "ALPHA": 0.1, "RATES": False, "TONIC": False, "ACTIVATION": -1}
            yield f"W h, {batch} trials, {dtype}", kernels._add_product, types, plain
            leaky = plain | {"RATES": True, "TONIC": True, "ACTIVATION": kernels.ACTIVATIONS["tanh"]}
            yield f"leaky step, {batch} trials, {dtype}", kernels._add_product, types, leaky
        sampled = {"grad": value, "crow": INDEX, "col": INDEX, "g": value, "h": value}
        sampled |= dict.fromkeys(("n_rows", "columns", "first_column", "last_column"), "i32")
        constants = {"ROWS": 1, "SYNAPSES": 32, "COLUMNS": 32}
        yield f"gradient of W, {dtype}", kernels._add_sampled, sampled, constants
        spikes = {"y": value, "ptr": INDEX, "target": INDEX, "values": value, "h": value, "batch": "i32"}
        yield f"spikes, {dtype}", kernels._add_spikes, spikes, {"ALPHA": 0.1, "SYNAPSES": 128}


def compiled_kernels(capability: int) -> Iterator[tuple[str, int, int]]:
    """Compile each kernel; yield its name, the registers of a thread, and the bytes that it spills."""
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # as it is by default; without, Triton warns
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    reader = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    for name, kernel, types, constants in cases():
        signature = types | dict.fromkeys(constants, "constexpr")
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        code = triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["cubin"]
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(code)
            file.flush()
            command = [str(reader), "--dump-resource-usage", file.name]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        registers, stack, local = (int(re.search(rf"{what}:(\d+)", said)[1]) for what in USED)  # type: ignore[index]
        yield name, registers, stack + local


def main() -> None:
    """Print a table of all kernels."""
    arguments(__doc__).parse_args()
    by_gpu = [list(compiled_kernels(capability)) for capability in CAPABILITIES]
    columns = (f"sm_{c} ({gpu}): registers, spilled" for c, gpu in CAPABILITIES.items())
    print(*table_head("kernel", *columns), sep="\n")
    for rows in zip(*by_gpu, strict=True):
        print(table_row([rows[0][0], *(f"{registers}, {spilled} bytes" for _, registers, spilled in rows)]))


if __name__ == "__main__":
    main()
