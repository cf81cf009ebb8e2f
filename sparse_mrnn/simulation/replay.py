"""ReplayedDrive: start, inputs and currents of a recorded run, made again from its attributes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sparse_mrnn.checks import seed_number, whole_number
from sparse_mrnn.declaration.config import SimulationConfig
from sparse_mrnn.errors import RecordingError, SparseMRNNError
from sparse_mrnn.lowering.random_streams import run_streams
from sparse_mrnn.models.network import mRNNBase
from sparse_mrnn.simulation.intervention_schedule import InterventionSchedule
from sparse_mrnn.simulation.simulator import Simulator
from sparse_mrnn.simulation.stimulus_drive import StimulusDrive, place


class ReplayedDrive:
    """Inputs and direct currents of a recorded run, step by step, without its noise.

    Parameters
    ----------
    net : mRNN or ElmanmRNN
    attributes : mapping
        Attributes of the recording.
    trials : int
        Trials of the recording, which must be all of the run.

    Attributes
    ----------
    h0 : Tensor, shape (units, trials)
        Activity at the start.

    Raises
    ------
    RecordingError
        If the stimuli cannot be made again (samples and functions are not in a recording), trials are
        missing, or gains of projections changed in the run.

    Examples
    --------
    >>> import sparse_mrnn as sm
    >>> g = sm.RegionGraph(); g.add_region("a", 2); g.add_input("cue", 1); g.add_projection("cue", "a")
    >>> net = sm.mRNN(g, device="cpu")
    >>> run = sm.simulate(net, 30, stimulus=sm.Stimulus("cue", 1.0, start=10), progress=False)
    >>> ReplayedDrive(net, run.attrs, 1).take(3)[0][:, :, 0].tolist()
    [[0.0], [1.0], [1.0]]
    """

    def __init__(self, net: mRNNBase, attributes: Mapping[str, Any], trials: int) -> None:
        try:
            options = json.loads(attributes["options"])
            parts = {name: options[name] for name in ("stimulus", "interventions")}
            settings = SimulationConfig(**parts)
            stimuli, interventions = settings.stimuli(), settings.intervention_objects()
            steps, batch = (whole_number(options[name], name, RecordingError) for name in ("steps", "batch"))
            seed = seed_number(options["seed"], RecordingError)
        except (KeyError, TypeError, ValueError, RecursionError, SparseMRNNError) as error:
            why = "what drove the run cannot be made again from its recording"
            advice = "pass inputs= and stim= (samples and functions are not in a recording)"
            raise RecordingError(f"{why}; {advice}. It says: {error}") from None
        of_stimuli, of_interventions = run_streams(seed)
        if batch != trials:
            what = f"the recording has {trials} of the {batch} trials of its run"
            raise RecordingError(f"{what}, so its inputs are not known; pass inputs= and stim=.")
        self.schedule = InterventionSchedule(net, interventions, steps, of_interventions)
        for edge in self.schedule.edges:
            if any(self.schedule.factors(edge).values()):
                what = "gains of projections changed in this run, so no weights are those of all its steps"
                raise RecordingError(f"{what}; simulate it without, or record each part on its own.")
        running = Simulator(net, batch, None, event_driven=False)
        running.stepper.hold(self.schedule.held(0))
        self.h0, self.u = running.stepper.h, running.u
        placed = place(net, stimuli, steps, batch, of_stimuli)
        self.drive, self.step = StimulusDrive(placed, self.u, 1), 0
        self.has_currents = any(p.kind == "recurrent" for p in placed)

    def skip(self, steps: int) -> None:
        """Go on by some steps."""
        for _ in range(steps):
            self.drive.fill(self.step)
            self.step += 1

    def take(self, steps: int) -> tuple[Tensor, Tensor | None]:
        """Return inputs, (steps, inputs, trials), and currents, (steps, units, trials) or None, of the next
        steps."""
        inputs = self.u.new_zeros(steps, *self.u.shape)
        currents = self.h0.new_zeros(steps, *self.h0.shape) if self.has_currents else None
        for k in range(steps):
            direct, _ = self.drive.fill(self.step)
            inputs[k] = self.u
            for units in self.schedule.silent_inputs(self.step):
                inputs[k, units] = 0
            for units, value in direct:
                if currents is not None:
                    currents[k, units] += value
            self.step += 1
        return inputs, currents

