"""The recurrence over a whole sequence, with its own backward pass.

    x[t+1] = (1 - alpha) x[t] + alpha (W h[t] + W_inp u[t] + b + noise + stim[t]),    h[t+1] = f(x[t+1])

With delays, W h[t] is the sum over delays d, in steps, of W_d h[t + 1 - d]; before the start, h is h0.
alpha = dt / tau; alpha = 1 is the Elman net. State is (units, batch). A step forward is one product and two
pointwise passes (`forward.ForwardLoop`), a step backward one transposed product and one pass
(`backward.BackwardLoop`); the weight gradient is one SDDMM per chunk of steps instead of one per step.
Buffers are made once.
"""

from sparse_mrnn.ops.sequence.autograd import recurrence, stepwise_recurrence
from sparse_mrnn.ops.sequence.spec import RecurrenceSpec, RecurrenceTensors

__all__ = ["RecurrenceSpec", "RecurrenceTensors", "recurrence", "stepwise_recurrence"]
