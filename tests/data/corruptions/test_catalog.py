"""The names and parameters of the corruptions, against the released generator's as the protocol lists them."""

import subprocess
import sys

from bench.data.corruptions import apply
from bench.data.corruptions.catalog import COMMON_15, CORRUPTIONS, PARAMETERS, SEVERITIES

# Copied from the protocol; glass blur without its maximal delta of 1, zoom blur as the largest factor.
PROTOCOL = """
gaussian_noise .04 .06 .08 .09 .10 | shot_noise 500 250 100 75 50 | impulse_noise .01 .02 .03 .05 .07 |
speckle_noise .06 .1 .12 .16 .2 | gaussian_blur .4 .6 .7 .8 1 | glass_blur .05,1 .25,1 .4,1 .25,2 .4,2 |
defocus_blur .3,.4 .4,.5 .5,.6 1,.2 1.5,.1 | motion_blur 6,1 6,1.5 6,2 8,2 9,2.5 | zoom_blur 1.06 1.11 1.16 1.21 1.26 |
fog .2,3 .5,3 .75,2.5 1,2 1.5,1.75 | frost 1,.2 1,.3 .9,.4 .85,.4 .75,.45 |
snow .1,.2,1,.6,8,3,.95 .1,.2,1,.5,10,4,.9 .15,.3,1.75,.55,10,4,.9 .25,.3,2.25,.6,12,6,.85 .3,.3,1.25,.65,14,12,.8 |
spatter .62,.1,.7,.7,.5,0 .65,.1,.8,.7,.5,0 .65,.3,1,.69,.5,0 .65,.1,.7,.69,.6,1 .65,.1,.5,.68,.6,1 |
contrast .75 .5 .4 .3 .15 | brightness .05 .1 .15 .2 .3 | saturate .3,0 .1,0 1.5,0 2,.1 2.5,.2 |
jpeg_compression 80 65 58 50 40 | pixelate .95 .9 .85 .75 .65 |
elastic_transform 0,0,.08 .05,.2,.07 .08,.06,.06 .1,.04,.05 .1,.03,.03
"""


def test_the_parameters_are_those_of_the_protocol() -> None:
    entries = [entry.split() for entry in PROTOCOL.split("|")]
    rows = {name: tuple(tuple(map(float, row.split(","))) for row in listed) for name, *listed in entries}
    assert rows == PARAMETERS


def test_there_are_19_types_of_which_15_are_common_and_each_has_a_function() -> None:
    assert tuple(sorted(PARAMETERS)) == CORRUPTIONS
    assert len(CORRUPTIONS) == 19
    assert set(CORRUPTIONS) - set(COMMON_15) == {"gaussian_blur", "saturate", "spatter", "speckle_noise"}
    assert tuple(sorted(COMMON_15)) == COMMON_15
    assert {*apply.FIXED, *apply.RANDOM} == set(CORRUPTIONS)
    assert not apply.FIXED.keys() & apply.RANDOM.keys()
    assert all(len(rows) == len(SEVERITIES) for rows in PARAMETERS.values())


def test_the_catalog_starts_without_torch() -> None:
    program = "import sys, bench.data.corruptions.catalog; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
