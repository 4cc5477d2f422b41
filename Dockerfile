# hdml serve in a container: docker build -t hdml . ; docs/serving.md says how it is run.
#
#   docker build -t hdml .                              for a CPU
#   docker build -t hdml:cuda --build-arg DEVICE=cuda .  for an NVIDIA GPU, with nvidia-container-toolkit on the host
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ARG DEVICE=cpu
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY tools/container_requirements.py tools/
COPY hdml hdml
COPY indexing indexing
COPY cli cli
COPY app app
RUN python -m venv /venv \
 && python tools/container_requirements.py "$DEVICE" > /requirements.txt \
 && /venv/bin/pip install --no-cache-dir --constraint constraints.txt --requirement /requirements.txt \
 && /venv/bin/pip install --no-cache-dir --no-deps .

FROM python:${PYTHON}-slim
# A user that owns nothing but the workspace.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin hdml \
 && install --directory --owner hdml --group hdml /workspace
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    HDML_WORKSPACE=/workspace HOME=/tmp GRADIO_ANALYTICS_ENABLED=False \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER hdml
WORKDIR /workspace
VOLUME /workspace
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
# No token, no server: HDML_TOKEN or --token-file has to be given, see docs/serving.md.
ENTRYPOINT ["hdml"]
CMD ["serve", "--host", "0.0.0.0", "--no-open", "--log-format", "json"]
