# What befalls pipelines in a cluster, under load: each scene says what is to be seen afterwards. Sourced.
# shellcheck shell=bash

SCENES=(tell_rarely tell_of_parts scale scale_by_load scale_by_hpa kill_pods kill_store kill_broker set_a_topic_otherwise change_a_table
    change_with_a_dying_operator upgrade_and_roll_back refuse_an_invalid_change topic_is_put_right suspend_and_resume lose_a_node)

disturb() {
    local scene
    for scene in ${E2E_SCENES-"${SCENES[@]}"}; do "$scene"; done
}

# While events flow, whoever watches a pipeline hears of its figures at most once in 30 s: three times in a minute, if it begins
# with one.
tell_rarely() {
    local before after told
    await 120 "category-sales is settled" is category-sales Progressing False
    before=$(events_read category-sales)
    told=$(timeout 60 "$KUBECTL" -n "$NAMESPACE" get csp category-sales --watch-only --no-headers | wc -l) || true
    after=$(events_read category-sales)
    [ "$after" -gt "$before" ] || fail "no event of category-sales in a minute"
    { [ "$told" -ge 1 ] && [ "$told" -le 3 ]; } || fail "category-sales was written $told times in a minute"
    say "category-sales: written $told times in a minute, with $((after - before)) events"
}

# What collectors take and a sink writes, as the pipeline's status says it.
tell_of_parts() {
    figures() {
        local said
        said=$(k get csp shop -o 'jsonpath={.status.ingest[0].rate}; {.status.sinks[0].rate}; {.status.sinks[0].lag}')
        echo "$said"
        [[ $said =~ ^[1-9][0-9]*\ events/s\;\ [0-9]+\ rows/s\;\ [0-9]+\ rows,\  ]]
    }
    await 120 "shop: its status says what its collectors and its sink do" figures
    say "shop: $(figures)"
}

ready_processors() { # PIPELINE COUNT
    local said
    said=$(k get csp "$1" -o 'jsonpath={.status.process.replicas} {.status.process.readyReplicas}')
    echo "replicas, ready: $said"
    [ "$said" = "$2 $2" ]
}

scale() {
    local before after
    before=$(pods_of category-sales)
    must "kubectl scale: 4 processors of category-sales" k scale csp category-sales --replicas=4
    await 120 "4 processors ready" ready_processors category-sales 4
    after=$(pods_of category-sales)
    [ -z "$(comm -23 <(echo "$before") <(echo "$after"))" ] || fail "scaling up replaced pods:"$'\n'"$after"
    goes_on category-sales "scaled up"
    must "kubectl scale: 2 processors" k scale csp category-sales --replicas=2
    await 120 "2 processors ready" ready_processors category-sales 2
    await 120 "category-sales Ready" is category-sales Ready True
    goes_on category-sales "scaled down"
}

# The last decision, once it was made from what pods said of their work.
decided() { # PIPELINE
    local said
    said=$(k get csp "$1" -o 'jsonpath={.status.process.scaling}')
    echo "decided: $said"
    [[ $said =~ ([0-9.]+)\ events/s\ arrive ]] && [[ ${BASH_REMATCH[1]} != 0 ]]
}

scale_by_load() {
    must "autoscale: 3 to 4 processors" k patch csp category-sales --type=merge \
        -p '{"spec":{"process":{"autoscale":{"minReplicas":3,"maxReplicas":4,"drainWithin":"5m"}}}}'
    await 120 "3 processors ready" ready_processors category-sales 3
    await 120 "it decides by what the pods say" decided category-sales
    say "$(decided category-sales)"
    must "no autoscale" k patch csp category-sales --type=merge -p '{"spec":{"process":{"autoscale":null}}}'
    await 120 "2 processors ready" ready_processors category-sales 2
    await 120 "category-sales Ready" is category-sales Ready True
    goes_on category-sales "scaled by load"
}

# What the autoscaler of Kubernetes says of itself.
says() { # HPA CONDITION REASON
    local said
    said=$(k get hpa "$1" -o "jsonpath={.status.conditions[?(@.type=='$2')].reason}")
    echo "$2: $said"
    [ "$said" = "$3" ]
}

# Nobody measures pods here, so that only its bounds move anything: it reads and writes the scale, and finds the pods by it.
scale_by_hpa() {
    must "HorizontalPodAutoscaler: 3 to 4 processors" k apply -f - <<'Y'
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: category-sales}
spec:
  scaleTargetRef: {apiVersion: clickstream.dev/v1alpha1, kind: ClickstreamPipeline, name: category-sales}
  minReplicas: 3
  maxReplicas: 4
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]
Y
    await 120 "3 processors ready" ready_processors category-sales 3
    await 120 "it found the pods, and nobody who measures them" says category-sales ScalingActive FailedGetResourceMetric
    must "no HorizontalPodAutoscaler" k delete hpa category-sales
    must "kubectl scale: 2 processors" k scale csp category-sales --replicas=2
    await 120 "2 processors ready" ready_processors category-sales 2
    await 120 "category-sales Ready" is category-sales Ready True
    goes_on category-sales "scaled by Kubernetes' autoscaler"
}

# Without grace: no drain, no last commit.
kill_pod() { k delete pod "$1" --force --grace-period=0 >/dev/null 2>&1; }

kill_pods() {
    local row pipeline component pod
    for row in "category-sales ingest-checkout" "category-sales process" "category-sales serve" "medallion sink-bronze" \
        "medallion sink-silver-lake" "medallion notify" "medallion process" "dataset-split ingest-dataset" \
        "shop ingest-collector" "shop sink-redis"; do
        read -r pipeline component <<<"$row"
        pod=$(pod_of "$pipeline" "$component")
        must "killed: $pod" kill_pod "$pod"
        await 180 "$pipeline Ready again" back_without "$pipeline" "$component" "$pod"
        goes_on "$pipeline" "${component%%-*} killed"
    done
}

# back_without PIPELINE COMPONENT POD: as many pods as there should be are ready, and that one is not among them.
back_without() {
    local wanted ready
    wanted=$(k get deployment "$1-$2" -o 'jsonpath={.spec.replicas}')
    ready=$(k get pods -l "clickstream.dev/pipeline=$1,app.kubernetes.io/component=$2" --no-headers | awk '$2 == "1/1" {print $1}')
    echo "$wanted wanted, ready: $ready"
    ! grep -qx "$3" <<<"$ready" && [ "$(grep -c . <<<"$ready")" = "$wanted" ] && is "$1" Ready True
}

# What it has written outlives it; what comes meanwhile waits.
kill_store() {
    local pod
    pod=$(k get pods -l app.kubernetes.io/name=redis -o 'jsonpath={.items[0].metadata.name}')
    must "killed: $pod" kill_pod "$pod"
    goes_on shop "its store killed"
    another_store() { k get pods -l app.kubernetes.io/name=redis --no-headers | awk '$2 == "1/1" {print $1}' | grep -vx "$pod"; }
    await 120 "another pod has its file" another_store
    await 120 "shop Ready" is shop Ready True
}

# A table that changes is computed again from all that the topic retains.
change_a_table() {
    sed -i 's/^\( *\)total_sales: sum(amount)$/&\n\1largest_sale: max(amount)/' "$WORK/shop.yaml"
    must "another column for a table of shop" k apply -f "$WORK/shop.yaml"
    await 240 "shop Ready" is shop Ready True
    await 120 "its table has the column" has_column shop category_sales largest_sale
    goes_on shop "a table changed"
}

has_column() { # PIPELINE TABLE COLUMN
    local row
    row=$(api "$1" "/api/v1/tables/$2?limit=1")
    echo "$row"
    grep -q "\"$3\":" <<<"$row"
}

kill_broker() {
    local before
    before=$(k get pod kafka-1 -o 'jsonpath={.metadata.uid}')
    must "killed: kafka-1" kill_pod kafka-1
    goes_on category-sales "a broker killed"
    another() { k get pod kafka-1 && [ "$(k get pod kafka-1 -o 'jsonpath={.metadata.uid}')" != "$before" ]; }
    await 60 "kafka-1 is another pod" another
    await 180 "three brokers ready again" k rollout status statefulset/kafka --timeout=5s
    for name in "${PIPELINES[@]}"; do goes_on "$name" "three brokers again"; done
}

setup_of() { k get jobs -l "clickstream.dev/pipeline=$1,app.kubernetes.io/component=setup" -o 'jsonpath={.items[*].metadata.uid}'; }

# Behind everybody's back. It is put right while other things happen.
set_a_topic_otherwise() {
    SETUP_BEFORE=$(setup_of medallion)
    must "somebody sets ecom_clickstream_raw otherwise: retention.ms=86400000" k exec kafka-0 -- java -Xmx128m -XX:TieredStopAtLevel=1 \
        -cp '/opt/kafka/libs/*' kafka.admin.ConfigCommand --bootstrap-server localhost:9092 --alter \
        --entity-type topics --entity-name ecom_clickstream_raw --add-config retention.ms=86400000
    await 120 "an event tells it" told TopicsDiffer ecom_clickstream_raw
}

topic_is_put_right() {
    another_setup() { local now; now=$(setup_of medallion); echo "Jobs: $now"; [ -n "$now" ] && [ "$now" != "$SETUP_BEFORE" ]; }
    await 420 "setup of medallion ran again by itself" another_setup
    await 120 "medallion: its topics are as the spec says" is medallion TopicsReady True
    await 120 "medallion Ready" is medallion Ready True
    must "retention.ms is what the manifest says" k exec kafka-0 -- /bin/sh -c "java -Xmx128m -XX:TieredStopAtLevel=1 \
        -cp '/opt/kafka/libs/*' kafka.admin.ConfigCommand --bootstrap-server localhost:9092 --describe \
        --entity-type topics --entity-name ecom_clickstream_raw | sed -n '/retention.ms=604800000/q0; \$q1'"
}

operator_pod() { k get pods -l app.kubernetes.io/name=clickstream-operator -o "jsonpath={.items[0].metadata.name}"; }

# Every pod is another one, and the parts are as the spec says.
restarted() { # PIPELINE BEFORE
    local left
    left=$(comm -12 <(echo "$2") <(pods_of "$1"))
    [ -z "$left" ] || { echo "not restarted yet: $left"; return 1; }
    is "$1" Ready True && is "$1" Progressing False
}

change_with_a_dying_operator() {
    local before
    before=$(pods_of category-sales)
    must "spec changed: restart" k patch csp category-sales --type=merge -p '{"spec":{"restart":"e2e"}}'
    must "killed in the middle: the operator" kill_pod "$(operator_pod)"
    await 240 "every pod of category-sales was replaced, and it is settled" restarted category-sales "$before"
    goes_on category-sales "restarted by another operator"
}

# The operator that runs now has looked at the pipeline: what was taken away is there again.
operator_works() {
    local budget=pdb/category-sales-process
    k delete "$budget" >/dev/null
    await 120 "$1: the operator puts right what was deleted" k get "$budget"
}

upgrade_and_roll_back() {
    local before name
    declare -A before
    for name in "${PIPELINES[@]}"; do before[$name]=$(pods_of "$name"); done
    must "helm upgrade" helm upgrade clickstream "$CHART" "${CHOICES[@]}" --set operator.logLevel=debug,operator.replicas=2,workerImage=clickstream:another
    await 120 "two operators, one leads" k rollout status deployment/clickstream --timeout=5s
    operator_works "upgraded"
    must "helm rollback" helm rollback clickstream 1
    await 120 "one operator" k rollout status deployment/clickstream --timeout=5s
    operator_works "rolled back"
    for name in "${PIPELINES[@]}"; do
        must "no pod of $name was touched by upgrade and rollback" pods_are "$name" "${before[$name]}"
    done
}

refuse_an_invalid_change() {
    local before
    before=$(pods_of medallion)
    must "spec changed: a table of a stream that is none" \
        k patch csp medallion --type=json -p '[{"op":"replace","path":"/spec/tables/0/from","value":"nowhere"}]'
    await 60 "medallion: Accepted is False" is medallion Accepted False
    goes_on medallion "invalid change"
    must "the pods are the same" pods_are medallion "$before"
    must "spec put right" \
        k patch csp medallion --type=json -p '[{"op":"replace","path":"/spec/tables/0/from","value":"events"}]'
    await 120 "medallion Ready" is medallion Ready True
    must "the pods are still the same" pods_are medallion "$before"
}

suspend_and_resume() {
    local read
    must "medallion suspended" k patch csp medallion --type=merge -p '{"spec":{"suspend":true}}'
    none() { pods_of medallion; [ -z "$(pods_of medallion)" ]; }
    await 120 "no pods" none
    suspended() { is medallion Ready False && is medallion Ready False | grep -q "^Ready=False Suspended"; }
    await 60 "its Ready says so" suspended
    must "medallion resumed" k patch csp medallion --type=merge -p '{"spec":{"suspend":false}}'
    await 180 "medallion Ready" is medallion Ready True
    goes_on medallion "resumed"
}

# Everything on node 3 ends at once, a broker as well. Kubernetes waits for the node for five minutes; an administrator who
# knows that it is dead says so by the taint, and the pods are made elsewhere.
lose_a_node() {
    if [ -z "$OWN" ] || [ "$K8S_NODES" -lt 3 ]; then
        say "left out: a node that dies (only on three nodes of the suite's own)"
        return
    fi
    local name
    say "on node3: $(k get pods --field-selector spec.nodeName=node3 -o 'jsonpath={.items[*].metadata.name}')"
    kill -KILL "$(cut -d' ' -f1 "$K8S_STATE/pids/node3")"
    say "killed: node3"
    gone() { "$KUBECTL" get node node3 --no-headers; "$KUBECTL" get node node3 --no-headers | grep -q NotReady; }
    await 120 "node3 is NotReady" gone
    must "node3 declared dead" "$KUBECTL" taint node node3 node.kubernetes.io/out-of-service=nodeshutdown:NoExecute
    for name in "${PIPELINES[@]}"; do await 240 "$name Ready without node3" is "$name" Ready True; done
    await 240 "three brokers on two nodes" k rollout status statefulset/kafka --timeout=5s
    for name in "${PIPELINES[@]}"; do goes_on "$name" "a node lost"; done
}
