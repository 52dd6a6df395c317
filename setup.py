"""ament_python package; `training` and `demo` are run from the checkout and are not installed."""

from glob import glob

from setuptools import find_packages, setup

NAME = "fsmde_ros"

setup(
    name=NAME,
    version="0.1.0",
    # Named, not excluded: an installed package called `training` would shadow other people's.
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["models/*.safetensors", "models/*.json"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", glob("launch/*.launch.py")),
        (f"share/{NAME}/config", glob("config/*")),
        (f"share/{NAME}/rviz", glob("rviz/*.rviz")),
        (f"share/{NAME}/security", glob("security/*")),
        (f"share/{NAME}/requirements", ["requirements/viewer.txt", "requirements/constraints.txt"]),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="The fsmde_ros maintainers",
    maintainer_email="maintainers@fsmde-ros.invalid",
    description="Full-surround metric depth for ROS 2",
    license="Apache-2.0",
    python_requires=">=3.10",
    entry_points={
        "console_scripts": [
            "surround_depth = fsmde_ros.node.surround_depth_node:main",
            "replay = fsmde_ros.node.player:main",
            "evaluate_replay = fsmde_ros.node.evaluator_node:main",
            "benchmark = fsmde_ros.benchmark.__main__:main",
            "nuscenes_to_bag = fsmde_ros.sources.convert:nuscenes_to_bag",
            "ddad_to_bag = fsmde_ros.sources.convert:ddad_to_bag",
            "bag_to_video = fsmde_ros.bag_to_video:main",
            "check_rig = fsmde_ros.check_rig.__main__:main",
            "chaos = fsmde_ros.chaos.__main__:main",
            "rerun_view = fsmde_ros.node.rerun_view:main",
            "security_policy = fsmde_ros.node.security_policy:main",
            "rig_from_bag = fsmde_ros.sources.convert:rig_from_bag",
        ],
    },
)
