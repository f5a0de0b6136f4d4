# A stand-in for NGC's PyTorch image in what matters to our Dockerfile: torch is in the system's Python at a
# pre-release version, PIP_CONSTRAINT pins every shipped package (some older than our pins, one older than
# pyproject.toml allows), and uid 1000 belongs to a user called ubuntu.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN useradd --uid 1000 --create-home --shell /bin/bash ubuntu
RUN python3 -m pip install --quiet --no-deps packaging==24.2 numpy==2.3.5 jinja2==3.1.5 pydantic==2.6.4
RUN cd "$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && mkdir torch torch-2.14.0a0+stand.in.dist-info \
    && echo '__version__ = "2.14.0a0+stand.in"' > torch/__init__.py \
    && printf 'Metadata-Version: 2.1\nName: torch\nVersion: 2.14.0a0+stand.in\n' \
        > torch-2.14.0a0+stand.in.dist-info/METADATA \
    && printf 'pip\n' > torch-2.14.0a0+stand.in.dist-info/INSTALLER \
    && printf 'torch/__init__.py,,\ntorch-2.14.0a0+stand.in.dist-info/METADATA,,\n' \
        > torch-2.14.0a0+stand.in.dist-info/RECORD
RUN mkdir -p /etc/pip && printf 'torch==2.14.0a0+stand.in\npackaging==24.2\nnumpy==2.3.5\njinja2==3.1.5\npydantic==2.6.4\n' \
    > /etc/pip/constraint.txt
ENV PIP_CONSTRAINT=/etc/pip/constraint.txt
