# docker build --tag gan-lightning .                            # for the CPU
# docker build --tag gan-lightning --build-arg DEVICE=cuda .    # for NVIDIA's GPUs; run it with --gpus all
FROM python:3.13-slim-bookworm

ARG DEVICE=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 HOME=/work
WORKDIR /build

# PyTorch by itself, since it is large and changes seldom. PyPI's is built for CUDA; PyTorch's own index has one for CPUs.
COPY constraints.txt .
RUN index=https://pypi.org/simple; \
    if [ "$DEVICE" = cpu ]; then index=https://download.pytorch.org/whl/cpu; fi; \
    pip install --constraint constraints.txt --extra-index-url "$index" torch torchvision

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
