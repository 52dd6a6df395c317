"""Work on a view begins when it comes, once, and for the camera as it is then."""

from __future__ import annotations

from array import array
from dataclasses import replace

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image

from fsmde_ros.backends import build_backend
from fsmde_ros.bit_depth import BitDepth
from fsmde_ros.errors import ImageError
from fsmde_ros.estimator import Estimator
from fsmde_ros.images import resize
from fsmde_ros.model_card import ModelCard
from fsmde_ros.network.student import Student, StudentConfig
from fsmde_ros.node.pipeline import begin, load, receive
from fsmde_ros.rig import Camera, Rig

pytestmark = pytest.mark.ros

CARD = ModelCard("test", StudentConfig(), (64, 96), "none", "none", "none")
PIXELS = np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype=np.uint8)
CAMERA = Camera("cam", (80, 120), np.array([[60.0, 0, 60], [0, 60, 40], [0, 0, 1]]), np.eye(4))


def raw() -> Image:
    height, width, _ = PIXELS.shape
    return Image(height=height, width=width, encoding="rgb8", step=3 * width, data=array("B", PIXELS.tobytes()))


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator(build_backend("torch", Student(), "cpu"), CARD)


def test_a_raw_image_is_begun_with_and_not_loaded_twice(estimator: Estimator) -> None:
    received = begin(estimator, receive(raw(), BitDepth()), CAMERA)
    assert received.loading is not None
    assert load(estimator, received, CAMERA) is received.loading
    np.testing.assert_array_equal(received.loading.result(5), resize(PIXELS, CARD.input_size))


def test_another_calibration_makes_it_load_anew(estimator: Estimator) -> None:
    received = begin(estimator, receive(raw(), BitDepth()), CAMERA)
    changed = replace(CAMERA, distortion=np.array([-0.3, 0.1, 0, 0, 0]), distortion_model="plumb_bob")
    anew = load(estimator, received, changed)
    assert anew is not received.loading
    assert not np.array_equal(anew.result(5), received.loading.result(5))


def test_what_is_wrong_is_said_when_the_sweep_is_gathered(estimator: Estimator) -> None:
    data = cv2.imencode(".jpg", PIXELS[:40])[1].tobytes()
    received = begin(estimator, receive(CompressedImage(format="jpeg", data=data), BitDepth()), CAMERA)
    with pytest.raises(ImageError, match=r"cam.*\(40, 120, 3\)"):
        estimator.gather(Rig((CAMERA,)), 0, {"cam": load(estimator, received, CAMERA)})
