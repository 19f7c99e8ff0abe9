# From an empty cluster to three pipelines with events under way. Sourced.
# shellcheck shell=bash

CHART=$ROOT/helm/clickstream
DEFINITION=crd/clickstreampipelines.clickstream.dev
# Set once the suite has made something that it takes away again.
MADE=

install_operator() {
    if "$KUBECTL" get namespace "$NAMESPACE" >/dev/null 2>&1 || "$KUBECTL" get "$DEFINITION" >/dev/null 2>&1; then
        fail "the cluster has a namespace $NAMESPACE or $DEFINITION already: the suite would take them away at the end"
    fi
    MADE=1
    "$KUBECTL" create namespace "$NAMESPACE" >/dev/null
    "$KUBECTL" label namespace "$NAMESPACE" pod-security.kubernetes.io/enforce=restricted >/dev/null
    k apply -f tests/e2e/volumes.yaml >/dev/null
    open_volumes
    helm install clickstream "$CHART" "${CHOICES[@]}" >"$WORK/helm.log" 2>&1 || fail "helm install: $(cat "$WORK/helm.log")"
    say "helm install"
    k create configmap dataset --from-file=examples/data/clickstream.csv >/dev/null
    sed "s|KAFKA_IMAGE|$KAFKA_IMAGE|" tests/e2e/dataset.yaml | k apply -f - >/dev/null
    sed "s|REDIS_IMAGE|$REDIS_IMAGE|" tests/e2e/redis.yaml | k apply -f - >/dev/null
    await 120 "operator ready" k rollout status deployment/clickstream --timeout=5s
    await 240 "three brokers ready" k rollout status statefulset/kafka --timeout=5s
    await 120 "rows of dataset-split on their volume" phase_is dataset Succeeded
    k delete pod dataset --wait=false >/dev/null
}

# Values of the release: CHOICES, and more behind them.
choices() {
    CHOICES=(-f tests/e2e/values.yaml --set "image.repository=${IMAGE%:*},image.tag=${IMAGE##*:},devKafka.image=$KAFKA_IMAGE")
}

phase_is() { # POD PHASE
    local phase
    phase=$(k get pod "$1" -o 'jsonpath={.status.phase} {.status.containerStatuses[*].state}')
    echo "$phase"
    [ "${phase%% *}" = "$2" ]
}

# The examples as the kustomizations change them, then until their events arrive in the tables.
start_pipelines() {
    local name
    for name in "${PIPELINES[@]}"; do
        "$KUBECTL" kustomize --load-restrictor LoadRestrictionsNone "tests/e2e/pipelines/$name" >"$WORK/$name.yaml"
        must "$name applied" k apply -f "$WORK/$name.yaml"
    done
    for name in "${PIPELINES[@]}"; do await 240 "$name Ready" is "$name" Ready True; done
    open_shop
    for name in "${PIPELINES[@]}"; do await 120 "$name: events in the tables" has_read "$name" 0; done
}

# Posts shop's events in batches of a hundred, three batches in two seconds, each until it is taken: what a connection that broke
# left open is posted again, and shop knows the ids.
open_shop() {
    sed 's/eventsPerSecond: 300/eventsPerSecond: 20/' "$WORK/category-sales.yaml" >"$WORK/shop-events.yaml"
    "$TARGET/debug/clickstream" generate "$WORK/shop-events.yaml" --count "${EVENTS[shop]}" -o "$WORK/shop.jsonl"
    mkdir "$WORK/batches"
    split -l 100 -a 4 "$WORK/shop.jsonl" "$WORK/batches/"
    sell & SHOP=$!
}

sell() {
    local batch
    trap tunnel_ends EXIT
    for batch in "$WORK"/batches/*; do
        until curl -sf -m 10 -o "$WORK/posted" -H 'content-type: application/x-ndjson' --data-binary "@$batch" "$COLLECTOR"; do
            tunnel
        done
        # Its pace.
        sleep 0.6
    done
}

# A way to a collector, anew: it ends with the pod that it leads to.
TUNNEL= COLLECTOR=http://127.0.0.1:18090/v1/events
tunnel() {
    local _
    tunnel_ends
    k port-forward service/shop-ingest-collector 18090:80 >/dev/null 2>&1 & TUNNEL=$!
    for _ in {1..20}; do
        curl -s -m 2 -o /dev/null "$COLLECTOR" && return
        sleep 0.25
    done
}

tunnel_ends() { [ -z "$TUNNEL" ] || kill "$TUNNEL" 2>/dev/null || true; }

# Everything that the suite made in a cluster that is not its own.
clean_up() {
    [ -n "$MADE" ] && [ -z "$OWN" ] || return 0
    k delete csp --all --timeout=60s >/dev/null 2>&1 || true
    helm uninstall clickstream >/dev/null 2>&1 || true
    "$KUBECTL" delete namespace "$NAMESPACE-2" --ignore-not-found --timeout=120s >/dev/null 2>&1 || say "namespace $NAMESPACE-2 is still there"
    "$KUBECTL" delete namespace "$NAMESPACE" --timeout=120s >/dev/null 2>&1 || say "namespace $NAMESPACE is still there"
    "$KUBECTL" delete "$DEFINITION" --timeout=60s >/dev/null 2>&1 || say "$DEFINITION is still there"
}
