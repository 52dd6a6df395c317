# The node on ROS 2 Jazzy, without a GPU. Not yet run by us: there was no Docker where this was written.
#   docker build -t fsmde_ros .
#   docker run --rm --net=host --ipc=host -v "$PWD:/data" fsmde_ros \
#       ros2 launch fsmde_ros surround_depth.launch.py rig_file:=/data/rig.yaml
# --ipc=host: Fast DDS finds the drivers of the host over the network, and then sends through shared memory. Where user or
# permissions differ: -e FASTDDS_BUILTIN_TRANSPORTS=UDPv4 on both sides.
# With an NVIDIA GPU: docker/Dockerfile.cuda.
# The official image sources ROS in its entry point, has colcon and rosdep, and has no apt lists.
ARG BASE=ros:jazzy-ros-base
FROM ${BASE}
SHELL ["/bin/bash", "-c"]
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /ws

# Dependencies first: they change less often than the code, so that their layer is kept.
COPY package.xml src/fsmde_ros/package.xml
COPY requirements src/fsmde_ros/requirements
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip \
    && rosdep update --rosdistro "$ROS_DISTRO" \
    && rosdep install --from-paths src --ignore-src -y --skip-keys rviz2 \
    && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir --break-system-packages --ignore-installed --extra-index-url "$TORCH_INDEX" \
    -r src/fsmde_ros/requirements/ros.txt

COPY . src/fsmde_ros
RUN source "/opt/ros/$ROS_DISTRO/setup.bash" && colcon build --packages-select fsmde_ros \
    && sed --in-place '$isource "/ws/install/setup.bash"' /ros_entrypoint.sh
CMD ["ros2", "launch", "fsmde_ros", "surround_depth.launch.py", "--show-args"]
