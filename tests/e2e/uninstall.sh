# Taking it away: what goes, and what stays. Sourced.
# shellcheck shell=bash

uninstall() {
    local before
    must "category-sales deleted" k delete csp category-sales --timeout=60s
    await 120 "nothing of category-sales is left" nothing_left category-sales
    # Its topics are: applied again, it knows every event without reading one again.
    must "category-sales applied again" k apply -f "$WORK/category-sales.yaml"
    await 240 "category-sales Ready" is category-sales Ready True
    await 120 "its tables are as before" agrees category-sales --events "transactions=$WORK/category-sales.jsonl"
    # Asked to, it takes its data along.
    must "it is to take its data along" k patch csp category-sales --type=merge -p '{"spec":{"deletionPolicy":"Delete"}}'
    await 60 "it has the finalizer" waits_for_its_data category-sales
    must "category-sales deleted again" k delete csp category-sales --wait=false
    await 240 "its data was deleted" told DataDeleted "topic transactions"
    await 60 "nothing of it is left" nothing_left category-sales
    # One that is uninstalled lets its pipelines go: nobody would take the finalizer away later.
    must "medallion is to take its data along" k patch csp medallion --type=merge -p '{"spec":{"deletionPolicy":"Delete"}}'
    await 60 "it has the finalizer" waits_for_its_data medallion
    await 120 "medallion Ready" is medallion Ready True
    before=$(pods_of medallion)
    must "helm uninstall" helm uninstall clickstream --timeout=180s
    must "medallion has no finalizer any more" waits_for_nothing medallion
    must "the definition is kept" "$KUBECTL" get "$DEFINITION"
    must "so are the pipelines" k get csp medallion dataset-split
    must "and their pods" pods_are medallion "$before"
    # Without an operator: nothing holds a pipeline back, and the cluster's garbage collector takes its objects.
    must "all pipelines deleted, without an operator" k delete csp --all --timeout=60s
    for name in "${PIPELINES[@]}"; do await 120 "nothing of $name is left" nothing_left "$name"; done
    namespace_with_its_operator
}

# A namespace takes its operator along, and a pipeline that waits for that operator does not hold it.
namespace_with_its_operator() {
    local NAMESPACE=$NAMESPACE-2
    must "another namespace" "$KUBECTL" create namespace "$NAMESPACE"
    must "helm install there" helm install clickstream "$CHART" "${CHOICES[@]}" --set crds.install=false,devKafka.enabled=false
    await 120 "operator ready" k rollout status deployment/clickstream --timeout=5s
    sed "s/namespace: .*/namespace: $NAMESPACE/; s/^spec:/spec:\n  deletionPolicy: Delete/" "$WORK/category-sales.yaml" >"$WORK/held.yaml"
    must "category-sales applied there" k apply -f "$WORK/held.yaml"
    await 60 "it has the finalizer" waits_for_its_data category-sales
    # Nobody there has that name.
    await 180 "it says which brokers do not answer" waits_for_brokers category-sales
    must "the namespace is deleted" "$KUBECTL" delete namespace "$NAMESPACE" --timeout=180s
}

waits_for_its_data() { k get csp "$1" -o 'jsonpath={.metadata.finalizers}' | grep -F clickstream.dev/delete-data; }

waits_for_brokers() { is "$1" TopicsReady False | grep "^TopicsReady=.* kafka[-:]"; }

waits_for_nothing() { ! waits_for_its_data "$1"; }

told() { # REASON WORDS
    k get events -o 'jsonpath={range .items[*]}{.reason} {.message}{"\n"}{end}' | grep "^$1 .*$2"
}

nothing_left() {
    local left
    left=$(k get deployments,jobs,services,configmaps,pods,poddisruptionbudgets,horizontalpodautoscalers,networkpolicies \
        -l "clickstream.dev/pipeline=$1" -o name)
    echo "$left"
    [ -z "$left" ]
}
