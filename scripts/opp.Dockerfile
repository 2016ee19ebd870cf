# Builds the Ascend operator package in an image of CANN; no NPU is needed. In the repository:
#
#   docker build -f scripts/opp.Dockerfile --output dist .
#
# --build-arg CANN=TAG takes another tag of ascend/cann: that of the nodes, and for 910A one with -910-.
ARG CANN=8.5.2-910-ubuntu22.04-py3.11

FROM ascend/cann:${CANN} AS build
COPY CMakeLists.txt CMakePresets.json pyproject.toml /bn3d/
COPY cmake /bn3d/cmake
COPY op_impl/ai_core /bn3d/op_impl/ai_core
COPY op_proto /bn3d/op_proto
COPY python /bn3d/python
COPY scripts /bn3d/scripts
WORKDIR /bn3d
RUN scripts/build_opp.sh

FROM scratch
COPY --from=build /bn3d/build/opp/*.run /
