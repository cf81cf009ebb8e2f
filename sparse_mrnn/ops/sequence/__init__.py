"""A whole sequence with gradients: the recurrence of any `Step`, with its own backward pass.

With delays, W h[t] is the sum over delays d, in steps, of W_d h[t + 1 - d]; before the start, h is h0. States
are (units, batch). A time step forward is one product and the pointwise step (`forward.ForwardLoop`),
backward one transposed product and the adjoint of the step (`backward.BackwardLoop`); the weight gradient is
one SDDMM per chunk of time steps instead of one for each. Buffers are made once.
"""

from sparse_mrnn.ops.sequence.autograd import recurrence
from sparse_mrnn.ops.sequence.forward import RecurrenceSpec, RecurrenceTensors

__all__ = ["RecurrenceSpec", "RecurrenceTensors", "recurrence"]
