# The agent's image, and one of the embedded control plane (docs/container.md). Nothing here is tied to one
# architecture: every package has wheels, and Debian packages, for amd64 and arm64 alike.
#
#   docker build --tag tendril .
#   docker build --tag tendril-control-plane --target control-plane .
#
# Terraform comes from its official image, OpenTofu likewise:
#   --build-arg TERRAFORM_IMAGE=ghcr.io/opentofu/opentofu:1.10-minimal
#   --build-arg TERRAFORM_PROGRAM=/usr/local/bin/tofu
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG TERRAFORM_IMAGE=hashicorp/terraform:1.11.4

FROM ${TERRAFORM_IMAGE} AS terraform

# --- what is installed: environments without pip, with compiled modules, since the root is read-only --------
FROM ${PYTHON_IMAGE} AS environment
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
# With a Python of its own that its user may run but not read: of such a program's processes /proc shows nothing,
# from their first instruction on. The token is in the environment of the agent and of each check of its health,
# and templates run as the same user (docs/threat-model.md). Theirs is the system's Python, as usual.
RUN python3 -m venv --without-pip /opt/tendril \
 && cp --remove-destination "$(readlink -f "$(command -v python3)")" /opt/tendril/bin/python3 \
 && chmod 0711 /opt/tendril/bin/python3
# The dependencies alone, at first: they change less often than the code.
COPY pyproject.toml constraints.txt ./
RUN python3 -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
      >dependencies.txt \
 && pip --python /opt/tendril/bin/python install --constraint constraints.txt --requirement dependencies.txt

FROM environment AS wheel
COPY . .
RUN pip wheel --no-deps --wheel-dir dist .

FROM environment AS agent-environment
COPY --from=wheel /build/dist dist
RUN pip --python /opt/tendril/bin/python install --no-deps dist/*.whl

FROM environment AS control-plane-environment
COPY --from=wheel /build/dist dist
RUN pip --python /opt/tendril/bin/python install --constraint constraints.txt "$(echo dist/*.whl)[local,grape]"

# --- what both run on ---------------------------------------------------------------------------------------
FROM ${PYTHON_IMAGE} AS base
# tini holds the token as well. The home is root's, so that no template leaves a ~/.gitconfig or ~/.terraformrc
# there for those that come after it.
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates git openssh-client tini \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf /var/log/* \
 && chmod 0711 /usr/bin/tini \
 && ln -s /opt/tendril/bin/tendril /opt/tendril/bin/grape /usr/local/bin/ \
 && groupadd --gid 10001 tendril \
 && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /home/tendril tendril \
 && install -d /home/tendril \
 && install -d -m 0700 -o tendril -g tendril /var/lib/tendril
ENV HOME=/home/tendril PYTHONUNBUFFERED=1
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--", "tendril"]

# --- the embedded control plane: for development and tests --------------------------------------------------
FROM base AS control-plane
COPY --from=control-plane-environment /opt/tendril /opt/tendril
USER 10001:10001
VOLUME /var/lib/tendril
EXPOSE 54321
CMD ["dev", "--host", "0.0.0.0", "--port", "54321", "--data", "/var/lib/tendril/plane"]
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="tendril-rt, embedded control plane" \
      org.opencontainers.image.description="The control plane of a remote Terraform agent, for development and tests" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# --- the agent ----------------------------------------------------------------------------------------------
FROM base AS agent
COPY --from=agent-environment /opt/tendril /opt/tendril
ARG TERRAFORM_PROGRAM=/bin/terraform
COPY --from=terraform ${TERRAFORM_PROGRAM} /usr/local/bin/
USER 10001:10001
VOLUME /var/lib/tendril
# The port listens on loopback, for the check below alone: a kubelet needs TENDRIL_HEALTH_HOST=0.0.0.0.
ENV TENDRIL_HEALTH_PORT=8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 CMD ["tendril", "health"]
CMD ["run"]
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="tendril-rt" \
      org.opencontainers.image.description="A remote Terraform agent: outbound only, at most once, every byte of log delivered" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
