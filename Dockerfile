# syntax=docker/dockerfile:1
# The broker in an image of its own: the binary, the C library and the certificates of authorities, nobody's shell, and a user
# without rights. The binary is its own health check.
#
#   docker build -t perennial .
#   docker run -p 8080:8080 -v perennial:/data -e PERENNIAL_AUTH_SECRET perennial
#
# It listens on all addresses of its container, so it wants to know who may speak: docs/authentication.md.

FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
# Names of functions stay, for backtraces; lines are for who debugs.
ENV CARGO_PROFILE_RELEASE_DEBUG=false
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --release --locked --package perennial \
    && mkdir -p /image/usr/local/bin /image/data \
    && cp target/release/perennial /image/usr/local/bin/

# What deploy/compose/setup.sh needs beside the broker, to make keys, a token and a certificate to try it out with.
FROM debian:bookworm-slim AS setup
# Whatever version of openssl Debian has is good enough for that.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends openssl \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o 65532 -g 65532 /secrets
COPY --from=build /image/usr/local/bin/perennial /usr/local/bin/
COPY deploy/compose/setup.sh /usr/local/bin/setup
USER 65532:65532
CMD ["setup", "/secrets"]

FROM gcr.io/distroless/cc-debian12:nonroot AS broker
COPY --from=build /image/usr/local/bin/perennial /usr/local/bin/
COPY --from=build --chown=65532:65532 /image/data /data
USER 65532:65532
ENV PERENNIAL_LISTEN=0.0.0.0:8080 \
    PERENNIAL_DATA=/data
VOLUME ["/data"]
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 CMD ["perennial", "health"]
ENTRYPOINT ["perennial"]
CMD ["serve"]
