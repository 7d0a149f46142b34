# Two images from one file:
#   docker build --target separate -t sepvae .              separates on a CPU: docker run --rm -v "$PWD:/data" sepvae separate song.mp3
#   docker build --target train -t sepvae:train .           trains with CUDA:   docker run --rm --gpus all -v "$PWD:/data" sepvae:train train ...
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS source
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY sepvae sepvae
COPY recipes recipes
COPY pretrained pretrained

FROM python:${PYTHON}-slim AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 SEPVAE_CACHE=/cache
RUN useradd --create-home --uid 1000 sepvae && install --directory --owner=sepvae /data /cache
ENTRYPOINT ["sepvae"]
CMD ["--help"]

FROM base AS separate
RUN --mount=type=bind,from=source,source=/src,target=/src,rw \
    pip install --extra-index-url https://download.pytorch.org/whl/cpu -c /src/constraints.txt "torch==2.11.0+cpu" /src
USER 1000
WORKDIR /data

FROM base AS train
RUN --mount=type=bind,from=source,source=/src,target=/src,rw \
    pip install -c /src/constraints.txt "/src[train]"
USER 1000
WORKDIR /data
