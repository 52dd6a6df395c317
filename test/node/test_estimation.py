"""What the package warns of while the estimator is made reaches the log of the node."""

from __future__ import annotations

import logging

from fsmde_ros.node.estimation import warnings_to


def test_warnings_of_the_package_are_told_while_they_are_listened_to():
    told = []
    with warnings_to(told.append):
        logging.getLogger("fsmde_ros.backends").warning("the cache %s", "cannot be written")
        logging.getLogger("fsmde_ros.backends").info("nothing")
        logging.getLogger("elsewhere").warning("of others")
    logging.getLogger("fsmde_ros.backends").warning("too late")
    assert told == ["the cache cannot be written"]
