"""A network whose steps of training take half a second for as long as a file is there, as the fixture `slower` says.

Meanwhile no run is done, however long a busy machine takes for what a test does to the processes that train.
"""

import os
import time

from torch import Tensor, nn

from bench.spec.run import ModelSpec

VARIABLE = "FREETICKETS_TESTS_SLOWER"  # names the file to the processes that a test starts


class Slow(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        if self.training and os.path.exists(os.environ.get(VARIABLE, "")):  # noqa: PTH110, which takes no ""
            time.sleep(0.5)
        return super().forward(x)


def slow(classes: int) -> nn.Module:
    layers = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    return Slow(*layers, nn.Linear(64, classes))


SLOW = ModelSpec(name="tests.training.slow:slow")
