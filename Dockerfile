# syntax=docker/dockerfile:1

# Debian 12 on both sides, so that the binary finds the C library that it was linked with.
FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin pombo \
    && install -D --strip target/release/pombo /out/usr/bin/pombo \
    && install -d -o 65532 -g 65532 -m 0700 /out/var/lib/pombo

# No shell and no package manager: the C library, the certificate authorities (/etc/ssl/certs) and the user 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="pombo" \
      org.opencontainers.image.description="A standalone webhook delivery daemon: events from Redis streams, signed POSTs to subscribers" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /out/ /
# Beside the binary there is only /etc/pombo/pombo.toml, if it is mounted; settings may also come as POMBO_SECTION__KEY.
# A container's own loopback can be reached by nobody, so the metrics listen on every address of it. An instance is known by
# its host name: give the container a stable one, or set POMBO_INSTANCE__NAME, so that a restart takes over at once.
ENV POMBO_METRICS__LISTEN=0.0.0.0:9464 \
    STATE_DIRECTORY=/var/lib/pombo
USER 65532:65532
EXPOSE 9464
# `docker stop` waits 10 s by default; shutdown.grace is 20 s: `docker stop --time 30`.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/pombo"]
CMD ["serve"]
