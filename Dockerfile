# The suite with the versions that its tests ran with, for a GPU or a CPU; docs/install.md says how to use it.
# torch brings the libraries of CUDA that it needs: the base image is the smallest that hands a container its GPU.
FROM nvidia/cuda:13.0.2-base-ubuntu24.04

# gcc and Python's headers are what `execution: {compile: true}` needs.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home freetickets \
    && python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH

# Made again only if the lock file changes.
COPY requirements/locked.txt /opt/freetickets/requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --require-hashes -r /opt/freetickets/requirements/locked.txt

COPY pyproject.toml README.md LICENSE freetickets.py reproduce.py /opt/freetickets/
COPY bench /opt/freetickets/bench
COPY analysis /opt/freetickets/analysis
COPY slurm /opt/freetickets/slurm
COPY paper_configs /opt/freetickets/paper_configs
RUN pip install --no-deps --no-build-isolation /opt/freetickets

# Whoever the container runs as (`--user`) has a name, and a place for caches.
ENV USER=freetickets XDG_CACHE_HOME=/tmp/cache MPLCONFIGDIR=/tmp/cache/matplotlib
USER freetickets
WORKDIR /work
ENTRYPOINT ["freetickets"]
CMD ["--help"]
