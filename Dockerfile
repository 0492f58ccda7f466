# The package with the locked versions, and the demo:
#     docker build -t bit_keras .
#     docker run --rm bit_keras
# Another command, on photos in this folder, whose run and downloads stay in it:
#     docker run --rm --user "$(id -u)" -v "$PWD":/work bit_keras bit-finetune --dataset=photos
FROM python:3.12-slim
COPY pyproject.toml requirements.txt README.md LICENSE /source/
COPY bit_keras /source/bit_keras
RUN python -m pip install --no-cache-dir --constraint /source/requirements.txt /source
RUN useradd --no-create-home somebody && install --directory --owner=somebody --mode=777 /work
USER somebody
# Caches are in the home folder, and so in the volume, whoever runs it.
ENV HOME=/work
WORKDIR /work
VOLUME /work
CMD ["bit-finetune"]
