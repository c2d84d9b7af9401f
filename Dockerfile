# fv in a container. CPU: docker build -t fv .     GPU: docker build -t fv:gpu --build-arg EXTRAS=gpu .
# The GPU image needs no CUDA base: the extra `gpu` brings CUDA as wheels, the host brings its driver.
# Both run on a read-only root: docker run --read-only --tmpfs /tmp. .ci/containers tests them.
# The HTTP service alone, without what training needs: docker build -t fv:serve --target serve .
FROM python:3.11-slim AS serve

WORKDIR /opt/fv
COPY constraints.txt ./
RUN pip install --no-cache-dir --constraint constraints.txt tensorflow tf_keras absl-py filelock numpy \
    opencv-python-headless pandas pillow simplejpeg tqdm psutil protobuf google-crc32c \
    starlette uvicorn prometheus-client python-multipart mtcnn \
    && rm -r /usr/local/lib/python3*/*-packages/tensorflow/include
COPY fv fv
ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1
USER 1000
EXPOSE 8501
ENTRYPOINT ["python", "-m", "fv.serve"]
CMD ["--model=/export", "--host=0.0.0.0"]

FROM python:3.11-slim AS train

ARG EXTRAS=""

WORKDIR /opt/fv
# The code changes more often than its dependencies, so it comes after them: a rebuild then reuses this layer.
COPY setup.py pyproject.toml constraints.txt README.md LICENSE ./
COPY fv/__init__.py fv/
RUN pip install --no-cache-dir --editable ".${EXTRAS:+[$EXTRAS]}" --constraint constraints.txt \
    && rm -r /usr/local/lib/python3*/*-packages/tensorflow/include
COPY fv fv
COPY tools tools
COPY configs configs

# Any user may run it (docker run --user), so what matplotlib and CUDA cache goes where all may write.
ENV HOME=/tmp
USER 1000
# Configurations are named relative to /opt/fv; data and runs are mounted, by convention under /data.
CMD ["python", "-m", "fv.train", "--help"]
