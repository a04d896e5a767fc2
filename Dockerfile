# An image that holds the static binary and nothing else, for other images to copy:
#   docker build -t rinit .
#   COPY --from=rinit /rinit /usr/local/bin/rinit
# The same file serves x86_64 and aarch64: the binary is built for the machine that builds the image.
FROM rust:1-slim-bookworm AS build
WORKDIR /source
COPY Cargo.toml Cargo.lock build.rs ./
COPY .cargo .cargo
COPY release/build release/
COPY src/logs/text/Cargo.toml src/logs/text/
# Builds the dependencies alone, so that a change of the source builds only rinit again. Cargo needs a file for every
# target that Cargo.toml names.
RUN set -eu; target="$(uname -m)-unknown-linux-musl"; \
    mkdir benches; : >benches/peers.rs; : >benches/ports.rs; \
    rustup target list --installed | grep -qx "$target" || rustup target add "$target"; \
    echo 'fn main() {}' >src/main.rs; : >src/lib.rs; : >src/logs/text/lib.rs; \
    release/build "$target"
COPY src src
# Cargo compares the files' times, and these may be older than the empty ones that were built above.
RUN set -eu; target="$(uname -m)-unknown-linux-musl"; \
    touch src/main.rs src/lib.rs src/logs/text/lib.rs; \
    release/build "$target"; \
    cp "target/$target/release/rinit" /

FROM scratch
COPY --from=build /rinit /rinit
ENTRYPOINT ["/rinit"]
