# docker build --tag gan-lightning .
# The same image runs on the CPU and, with --gpus all, on NVIDIA's GPUs. For a smaller one without CUDA, name a package index
# with CPU builds of PyTorch: --build-arg PIP_EXTRA_INDEX_URL=...
FROM python:3.13-slim-bookworm

ARG PIP_EXTRA_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 HOME=/work
WORKDIR /build

# PyTorch by itself, since it is large and changes seldom
COPY constraints.txt .
RUN pip install --constraint constraints.txt torch torchvision

COPY pyproject.toml README.md LICENSE ./
COPY conf conf
COPY gan_lightning gan_lightning
RUN pip install --constraint constraints.txt ".[export]"

# Any user may run it, as with --user "$(id -u):$(id -g)", so that the files in outputs/ are the user's.
COPY data/MNIST /work/data/MNIST
RUN useradd --home-dir /work --uid 1000 gan && mkdir /work/outputs && chown -R gan /work && chmod -R a+rwX /work
USER 1000
WORKDIR /work
VOLUME /work/outputs
ENTRYPOINT ["gan-lightning"]
CMD ["train"]
