"""Trained networks of flyvis' ensemble: states of flyvis itself beside ours, and the time of both.

    PYTHON benchmarks/flyvis_ensemble.py --data fib25-fib19_v2.2.json --ensemble ensemble_0000.npz

PYTHON is an interpreter that has flyvis and this package (``pip install --no-deps flyvis`` and what it
imports). flyvis' network gets the parameters of some models by their names and saves a checkpoint, which
`load_flyvis_parameters` reads; both see one bright edge in float32, as flyvis runs, at dt = 5 ms.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from common import arguments, table_head, table_row

EXTENT, DT, STEPS = 8, 5.0, 300
MODELS = (0, 1, 25, 49)


def flyvis_network(data: Path) -> Any:
    """flyvis' own network; what renders its movies is left out."""
    os.environ.setdefault("FLYVIS_ROOT_DIR", tempfile.mkdtemp())
    for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
        sys.modules.setdefault(name, MagicMock())
    from datamate import Namespace
    from flyvis.network.network import Network

    return Network(
        connectome=Namespace(type="ConnectomeFromAvgFilters", file=data.name, extent=EXTENT, n_syn_fill=1)
    )


def set_parameters(net: Any, arrays: Any, model: int) -> None:
    """Give flyvis' network the parameters of a model, by the names of types and pairs."""
    pairs = list(zip(arrays["source"].tolist(), arrays["target"].tolist(), strict=True))
    of_type = {name: k for k, name in enumerate(arrays["types"].tolist())}
    types = [of_type[name] for name in net.node_params["bias"].keys]
    order = [pairs.index(tuple(pair)) for pair in net.edge_params["syn_strength"].keys]
    with torch.no_grad():
        net.nodes_bias.copy_(torch.from_numpy(arrays["bias"][model][types]))
        net.nodes_time_const.copy_(torch.from_numpy(arrays["time_constant"][model][types]))
        net.edges_syn_strength.copy_(torch.from_numpy(arrays["strength"][model][order]))


def main() -> None:
    """Compare states, and print a table of differences and times."""
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="fib25-fib19_v2.2.json of flyvis")
    parser.add_argument("--ensemble", type=Path, required=True, help="arrays of trained parameters, .npz")
    options = parser.parse_args()
    import sparse_mrnn as sm
    from sparse_mrnn.fly_vision import MovingEdge, load_flyvis_parameters, read_flyvis
    from sparse_mrnn.fly_vision.lattice import hex_centres, hex_columns

    torch.set_num_threads(1)
    graph, _ = read_flyvis(options.data, EXTENT, share=True, inputs=True)
    ours = sm.mRNN(graph, "relu", dt=DT, seed=0, device="cpu")
    sys.path.remove(str(Path(__file__).parent))  # benchmarks/flyvis.py has the package's name
    theirs = flyvis_network(options.data)
    arrays = dict(np.load(options.ensemble))
    times = np.arange(STEPS) * DT
    edge = MovingEdge(30.0, 9.7, 1.0, -4.0).light(hex_centres(hex_columns(EXTENT)), times, 1.0)
    light = torch.from_numpy(edge)[None].float()
    theirs.stimulus.zero(1, STEPS)
    rows = table_head("model", "numbers", "largest state", "largest difference", "flyvis", "ours")
    for model in MODELS:
        set_parameters(theirs, arrays, model)
        with tempfile.TemporaryDirectory() as folder:
            torch.save({"network": theirs.state_dict(), "val_loss": np.float64(0)}, f"{folder}/chkpt_00000")
            load_flyvis_parameters(ours, f"{folder}/chkpt_00000", connectome=options.data)
        by_checkpoint = [p.detach().clone() for p in ours.parameters()]
        load_flyvis_parameters(ours, options.ensemble, model)
        if not all(torch.equal(a, b) for a, b in zip(ours.parameters(), by_checkpoint, strict=True)):
            sys.exit(f"model {model}: the checkpoint and the arrays give other parameters")
        with torch.no_grad():
            begin = time.process_time()
            theirs.stimulus.zero()
            theirs.stimulus.add_input(light[:, :, None])
            expected = theirs(theirs.stimulus(), DT / 1000)[0].numpy()
            middle = time.process_time()
            found = ours(light, ours.batched_initial_condition(1)[0], checkpoint_steps=None)[0][0].numpy()
            end = time.process_time()
        units = np.concatenate([theirs.stimulus.layer_index[name] for name in ours.hid_regions])
        difference = np.abs(found - expected[:, units]).max()
        seconds = f"{middle - begin:.2f} s", f"{end - middle:.3f} s"
        largest = np.abs(found).max()
        rows.append(table_row([model, found.size, f"{largest:.2f}", f"{difference:.1e}", *seconds]))
        if difference > 1e-5 * max(1.0, largest):
            sys.exit("\n".join([*rows, f"the states of model {model} differ"]))
    print("\n".join(rows))


if __name__ == "__main__":
    main()
