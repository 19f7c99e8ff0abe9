# syntax=docker/dockerfile:1
# One image with both programs and the plugin of kubectl: docker build -t clickstream:0.1.0 .
#
# Built where glibc is as old as in the image that runs it: both are Debian 12. librdkafka, OpenSSL, SQLite and zstd are
# built from source into the program, so that the image holds glibc, authorities, time zones and our three files alone: no
# shell, no package manager.

FROM rust:1.95-bookworm AS build
# The toolchain of the image, rather than whatever rust-toolchain.toml's `stable` would fetch today.
ENV RUSTUP_TOOLCHAIN=$RUST_VERSION CARGO_TERM_COLOR=never
WORKDIR /src
COPY . .
# What cargo fetched and compiled stays in caches between builds; the programs are copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --locked --release -p worker -p operator --bin clickstream --bin clickstream-operator --bin kubectl-clickstream \
 && install -D -m 755 -t /out/usr/local/bin target/release/clickstream target/release/clickstream-operator \
    target/release/kubectl-clickstream \
 && strip /out/usr/local/bin/*

FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title=clickstream \
      org.opencontainers.image.licenses=Apache-2.0
COPY --from=build /out/ /
# As a number: Kubernetes cannot tell from a name that it is not root.
USER 65532:65532
ENTRYPOINT ["clickstream"]
