# Every image of ours: one build of the workspace, one runtime base, one target per program.
#
#   docker build --target order -t holdfast/order .
#
# FEATURES: `holdfast/failpoints` compiles in what the front page's "crash it here" needs. It does nothing until an
# operator of a stack in demo mode asks for it; for production leave it out (docs/deploy.md). `holdfast/jaeger` is the
# exporter to a Jaeger agent.

FROM rust:1.95-slim-trixie AS build
WORKDIR /src
ARG FEATURES=holdfast/failpoints,holdfast/jaeger
COPY . .
# The registry and the target folder stay between builds, apart from the sources: a change of ours builds only ours.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --locked --profile container --bins --features "${FEATURES}" \
        -p order -p payment -p inventory -p notification -p orchestrator -p card-processor -p control-room -p chassis -p load-tests \
 && mkdir /out \
 && for program in order payment inventory notification orchestrator card-processor control-room healthcheck token traffic reconcile drill; do \
        cp "target/container/${program}" /out/ || exit 1; \
    done

# No shell, no package manager, not root. `healthcheck` asks a service whether it is ready.
FROM gcr.io/distroless/cc-debian13:nonroot AS runtime
COPY --from=build /out/healthcheck /usr/local/bin/
COPY deploy/development/jwks.json /etc/holdfast/jwks.json
ENV HTTP_LISTEN=0.0.0.0:8080 JWKS=/etc/holdfast/jwks.json LOG_FORMAT=json
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=2s --timeout=3s --start-period=30s --retries=3 CMD ["healthcheck"]

FROM runtime AS order
COPY --from=build /out/order /usr/local/bin/
ENTRYPOINT ["order"]

FROM runtime AS payment
COPY --from=build /out/payment /usr/local/bin/
ENTRYPOINT ["payment"]

FROM runtime AS inventory
COPY --from=build /out/inventory /usr/local/bin/
ENTRYPOINT ["inventory"]

FROM runtime AS notification
COPY --from=build /out/notification /usr/local/bin/
ENTRYPOINT ["notification"]

FROM runtime AS orchestrator
COPY --from=build /out/orchestrator /usr/local/bin/
ENTRYPOINT ["orchestrator"]

FROM runtime AS card-processor
COPY --from=build /out/card-processor /usr/local/bin/
ENTRYPOINT ["card-processor"]

FROM runtime AS control-room
COPY --from=build /out/control-room /usr/local/bin/
ENTRYPOINT ["control-room"]

# Tokens, traffic, and `reconcile`.
FROM runtime AS tools
COPY --from=build /out/token /out/traffic /out/reconcile /out/drill /usr/local/bin/
HEALTHCHECK NONE
ENTRYPOINT ["reconcile"]
