"""A run long enough to be killed, with everything that has a state."""

import sparse_mrnn as sm
from sparse_mrnn.recording import Record
from sparse_mrnn.simulation import simulate
from sparse_mrnn.stimulus import Gain, Lesion, OrnsteinUhlenbeck, Poisson, Sine, Stimulus


def network(**options):
    g = sm.RegionGraph()
    g.add_region("a", 60, sign="pos", tau=50)
    g.add_region("b", 40, sign="neg", noise_level=0.2)
    g.add_input("i", 3)
    g.add_projection("i", "a", density=0.3, delay=25)
    g.add_projection("a", "b", density=0.3, delay=70)
    g.add_projection("b", "a", density=0.3)
    g.add_projection("a", "a", density=0.1, delay=30)
    return sm.mRNN(g, **{"seed": 3, "device": "cpu", "dt": 5.0, "spectral_radius": 0.9, **options})


STEPS = 3000


def begin(out, net=None, **options):
    """A run with everything that has a state: noise, delays, random stimuli, interventions, statistics."""
    given = dict(
        steps=STEPS,
        batch=2,
        noise=True,
        seed=11,
        stimulus=[
            Stimulus("i", OrnsteinUhlenbeck(1.0, tau=40), start=100),
            Stimulus("a", Poisson(20.0), fraction=0.4),
            Stimulus("b", Sine(0.2, frequency=3), start=500, stop=9000),
        ],
        interventions=[Lesion("b", start=4000, stop=6000, fraction=0.5), Gain("a", "b", 0.3, start=7000)],
        record=Record(what=["units", "mean", "variance"], every=2),
        progress=False,
    )
    return simulate(net or network(), **{**given, **options}, out=out)


def small_chunks(module):
    module.CHUNK_BYTES = 100 * 2 * 4 * 37
