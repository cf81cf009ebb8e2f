"""A dense multi-regional network with mRNNTorch 0.1's parameters, written for comparison: slow and plain."""

import torch
from torch import nn

CBGTCL = {
    "recurrent_regions": [
        {"name": "d1", "num_units": 50, "base_firing": 0, "sign": "neg"},
        {"name": "d2", "num_units": 50, "base_firing": 0, "sign": "neg"},
        {"name": "gpe", "num_units": 50, "base_firing": 1, "init": 1, "sign": "neg"},
        {"name": "stn", "num_units": 50, "base_firing": 1, "init": 0, "sign": "pos"},
        {"name": "snr", "num_units": 50, "base_firing": 1, "init": 1, "sign": "neg"},
        {"name": "thal", "num_units": 50, "base_firing": 1, "sign": "pos"},
        {"name": "alm_exc", "num_units": 40, "base_firing": 0, "sign": "pos"},
        {"name": "alm_inhib", "num_units": 10, "base_firing": 0, "sign": "neg"},
    ],
    "input_regions": [{"num_units": 25, "name": "iti", "sign": "pos"}],
    "recurrent_connections": [
        {"src_region": source, "dst_region": target, "sparsity": sparsity}
        for source, target, sparsity in [
            ("d1", "d1", 0.9), ("d1", "d2", 0.9), ("d2", "d1", 0.9), ("d2", "d2", 0.9), ("d2", "gpe", 0.25), ("d1", "snr", 0.25),
            ("gpe", "stn", 0.25), ("stn", "snr", 0.25), ("snr", "thal", 0.25), ("thal", "d1", 0.25), ("thal", "d2", 0.25),
            ("thal", "alm_exc", 0.25), ("thal", "alm_inhib", 0.25), ("alm_exc", "alm_exc", 0.25), ("alm_exc", "alm_inhib", 0.25),
            ("alm_inhib", "alm_inhib", 0.25), ("alm_inhib", "alm_exc", 0.25), ("alm_exc", "d1", 0.25), ("alm_exc", "d2", 0.25),
        ]
    ],
    "input_connections": [{"src_region": "iti", "dst_region": target, "sparsity": 0.25} for target in ("d1", "d2")],
}  # fmt: skip
"""Regions, sizes and fractions of mRNNTorch's own example, the cortex-basal ganglia-thalamus loop."""


class DenseMRNN(nn.Module):
    """Dense weights, masks and signs as parameters, as mRNNTorch has them; ``sparsity`` is the fraction zeroed."""

    def __init__(self, config, activation=torch.relu, dt=10, tau=100, constrained=(True, True), elman=False, seed=0):
        super().__init__()
        self.regions, self.inputs = config["recurrent_regions"], config["input_regions"]
        self.activation, self.alpha, self.constrained, self.elman = activation, 1.0 if elman else dt / tau, constrained, elman
        n, channels = (sum(r["num_units"] for r in part) for part in (self.regions, self.inputs))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self._matrix("W_rec", self.regions, config["recurrent_connections"], n, n)
            self._matrix("W_inp", self.inputs, config["input_connections"], n, channels)
        self.tonic = torch.cat([torch.full((r["num_units"],), float(r.get("base_firing", 0))) for r in self.regions])

    def _matrix(self, name, sources, connections, n, columns):
        weight, mask, sign = torch.zeros(3, n, columns)
        for c in connections:
            rows, cols = self._range(self.regions, c["dst_region"]), self._range(sources, c["src_region"])
            block = torch.ones(rows.stop - rows.start, cols.stop - cols.start)
            if c.get("sparsity") is not None:
                nn.init.sparse_(block, c["sparsity"])
            mask[rows, cols] = (block != 0).float()
            weight[rows, cols] = torch.rand_like(block) * (1 / (2 * n)) ** 0.5
            of = next(r for r in sources if r["name"] == c["src_region"])
            sign[rows, cols] = mask[rows, cols] * (1 if of.get("sign", "pos") == "pos" else -1)
        weight -= 0.002 * (weight != 0)  # after training, some magnitudes are negative
        setattr(self, name, nn.Parameter(weight))
        setattr(self, f"{name}_mask", nn.Parameter(mask, requires_grad=False))
        setattr(self, f"{name}_sign_matrix", nn.Parameter(sign, requires_grad=False))

    @staticmethod
    def _range(regions, name):
        start = 0
        for region in regions:
            if region["name"] == name:
                return slice(start, start + region["num_units"])
            start += region["num_units"]
        raise KeyError(name)

    def effective(self, name, constrained):
        weight, mask, sign = (getattr(self, name + end) for end in ("", "_mask", "_sign_matrix"))
        return mask * weight.abs() * sign if constrained else mask * weight

    def forward(self, inp, x0, h0):
        w_rec, w_inp = (self.effective(name, own) for name, own in zip(("W_rec", "W_inp"), self.constrained, strict=True))
        x, h, out = x0, h0, []
        for t in range(inp.shape[1]):
            drive = h @ w_rec.T + inp[:, t] @ w_inp.T + self.tonic
            x = drive if self.elman else x + self.alpha * (drive - x)
            h = self.activation(x)
            out.append(h)
        return torch.stack(out, 1)
