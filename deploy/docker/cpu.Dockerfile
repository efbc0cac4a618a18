# The server on a CPU. From the root of a clone:
#
#   docker build -f deploy/docker/cpu.Dockerfile -t sparseclip:cpu .
#   docker run --rm -p 127.0.0.1:50051:50051 -p 127.0.0.1:8080:8080 sparseclip:cpu \
#       --host 0.0.0.0 --insecure --http-port 8080
#
# EXTRAS=serve,http leaves out chat, and with it torch: the image is then a third of the size.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
ARG EXTRAS=chat,http,tracing
# torch's own index has the build for a CPU; the public one would bring several GB for CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
RUN python3 -m venv /opt/sparseclip
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/sparseclip/bin/pip install --quiet --extra-index-url "${TORCH_INDEX}" \
    -c constraints.txt ".[${EXTRAS}]"

FROM ${BASE}
LABEL org.opencontainers.image.title="sparseclip" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --user-group --home-dir /home/sparseclip --create-home sparseclip
COPY --from=build /opt/sparseclip /opt/sparseclip
COPY models/demo /models/demo
ENV PATH=/opt/sparseclip/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    SPARSECLIP_BUNDLE=/models/demo
USER 10001
WORKDIR /home/sparseclip
EXPOSE 50051 8080 9090
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["sparseclip", "health"]
# A server that anyone in the network may call is asked for by name: `--host 0.0.0.0 --insecure`, or
# tokens and TLS. See docs/deploy.md.
ENTRYPOINT ["sparseclip", "serve"]
