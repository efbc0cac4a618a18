# The server on an NVIDIA GPU, through onnxruntime's CUDA provider. From the root of a clone:
#
#   docker build -f deploy/docker/cuda.Dockerfile -t sparseclip:cuda .
#   docker run --rm --gpus all -p 127.0.0.1:50051:50051 -p 127.0.0.1:8080:8080 sparseclip:cuda \
#       --host 0.0.0.0 --insecure --http-port 8080
#
# The host needs the NVIDIA driver and its container toolkit. CUDA itself comes with torch.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cu130
WORKDIR /src
RUN python3 -m venv /opt/sparseclip
COPY . .
# The extra `chat` brings onnxruntime for a CPU. Both builds are one import, so that of the GPU is
# installed over it.
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/sparseclip/bin/pip install --quiet --extra-index-url "${TORCH_INDEX}" \
    -c constraints.txt ".[chat,http,tracing]" \
    && /opt/sparseclip/bin/pip uninstall --quiet --yes onnxruntime \
    && /opt/sparseclip/bin/pip install --quiet -c constraints.txt ".[gpu]"

FROM ${BASE}
LABEL org.opencontainers.image.title="sparseclip" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --user-group --home-dir /home/sparseclip --create-home sparseclip
COPY --from=build /opt/sparseclip /opt/sparseclip
COPY models/demo /models/demo
ENV PATH=/opt/sparseclip/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    SPARSECLIP_BUNDLE=/models/demo
USER 10001
WORKDIR /home/sparseclip
EXPOSE 50051 8080 9090
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["sparseclip", "health"]
ENTRYPOINT ["sparseclip", "serve", "--engine-device", "cuda"]
