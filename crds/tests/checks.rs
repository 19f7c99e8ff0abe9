//! One row for each thing that is checked: a field of a small valid manifest is set, and this is what is told.

const BASE: &str = "
apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: {name: base}
spec:
  topics: [{name: raw, partitions: 3}, {name: other}]
  lookups: [{name: products, key: product_id, file: products.json}]
  ingest:
  - name: shop
    topic: raw
    synthetic: {fields: {user_id: {uuid: {}}, n: {integer: {min: 1, max: 2}}}}
  streams:
  - name: events
    topics: [raw]
    key: user_id
    eventTime: {field: at}
    id: {field: event_id, deduplicateWithin: 1m}
    fields:
    - {name: event_id, type: string}
    - {name: user_id, type: string}
    - {name: product_id, type: string}
    - {name: price, type: decimal}
    - {name: n, type: integer}
    - {name: at, type: timestamp}
    rules: [{name: rule, check: price >= 0}]
  - name: plain
    topics: [other]
    fields: [{name: k, type: string}, {name: at, type: timestamp}, {name: until, type: timestamp}]
  - name: offers
    topics: [other]
    eventTime: {field: at}
    fields: [{name: k, type: string}, {name: at, type: timestamp}, {name: until, type: timestamp}]
  - name: pairs
    join: {left: events, right: offers, match: events.product_id = offers.k, during: events.at between offers.at and offers.until, within: 1h}
  tables:
  - name: sales
    from: events
    window: {tumbling: 1m}
    groupBy: [product_id]
    select: {orders: count(), revenue: sum(price)}
  - name: funnel
    from: events
    window: {tumbling: 1h}
    funnel: {by: user_id, within: 1h, steps: [{name: a, where: n = 1}, {name: b, where: n = 2}]}
  - name: paired
    from: pairs
    window: {tumbling: 1m}
    select: {pairs: count()}
  alerts: [{name: alert, table: sales, when: orders > 10}]
  sinks:
  - {name: out, tables: [sales], console: {}}
  - {name: lake, topics: [raw], parquet: {path: lake/}}
  schedules: [{name: nightly, cron: 15 2 * * *, replay: {from: lake}}]
";

/// Sets `path` to `value` and expects exactly this problem; an empty one means that it is valid.
#[track_caller]
fn check(path: &str, value: &str, want: &str) {
    let got = match crds::check(BASE, &[(path.into(), value.into())]) {
        Ok(_) => String::new(),
        Err(problems) => {
            let line = |problem: &crds::Problem| format!("{}: {}", problem.path, problem.message);
            problems.iter().map(line).collect::<Vec<_>>().join("\n")
        }
    };
    assert_eq!(got, want, "{path} = {value}");
}

#[test]
fn the_base_is_valid() {
    check("suspend", "true", "");
    check("-", "~", "spec.-: unknown field");
}

#[test]
fn shapes_of_fields() {
    check("topics.raw.partitions", "0", "spec.topics[raw].partitions: must be from 1 to 1024");
    check("topics.raw.partitions", "three", "spec.topics[raw].partitions: must be an integer");
    check("topics.raw.partitions", "2.5", "spec.topics[raw].partitions: must be an integer");
    check("topics.raw.retention", "1 week", "spec.topics[raw].retention: is not a duration");
    check("topics.raw.retention", "7", "spec.topics[raw].retention: must be a string");
    check(
        "topics.raw.config",
        "{retention.ms: ~}",
        "spec.topics[raw].config.retention.ms: has no value: give it one, or leave the line out",
    );
    check("topics.raw.config", "{retention.ms: ''}", "");
    check("topics.raw.colour", "red", "spec.topics[raw].colour: unknown field");
    check("deletionPolicy", "retain", "spec.deletionPolicy: is not one of the accepted words");
    check("suspend", "sure", "spec.suspend: must be a boolean");
    check("streams.events.rules.rule.check", "true", "spec.streams[events].rules[rule].check: must be a string");
    check("tables.sales.groupBy", "product_id", "spec.tables[sales].groupBy: must be a list");
    check(
        "sinks",
        "[{tables: [sales], console: {}}, {name: lake, topics: [raw], parquet: {path: lake/}}]",
        "spec.sinks[0].name: is required",
    );
    check(
        "alerts",
        "[{name: a, table: sales, when: orders > 1}, {name: a, table: sales, when: orders > 2}]",
        "spec.alerts[a]: the name is taken by another item of the list",
    );
    check("alerts.alert.name", "Über", "spec.alerts[Über].name: is malformed");
    check(
        "streams.events.fields.price.name",
        "_price",
        "spec.streams[events].fields[_price].name: is malformed\nspec.streams[events].rules[rule].check: unknown column price in stream events\nspec.tables[sales].select.revenue: unknown column price in stream events",
    );
    check("kafka", "{bootstrapServers: [kafka]}", "spec.kafka.bootstrapServers[0]: is no broker");
    check("kafka", "{bootstrapServers: ['k:9092,x:1']}", "spec.kafka.bootstrapServers[0]: is no broker");
    check("kafka", "{bootstrapServers: []}", "spec.kafka.bootstrapServers: must have at least 1 items");
    let sasl = |sasl: &str, want: &str| {
        check("kafka", &format!("{{bootstrapServers: ['k:9092'], sasl: {{credentialsSecret: s, {sasl}}}}}"), want);
    };
    sasl("mechanism: OAUTHBEARER, oauth: {tokenUrl: 'https://id.example.com/token?tenant=1'}", "");
    sasl("mechanism: OAUTHBEARER", "spec.kafka.sasl: OAUTHBEARER needs to know where tokens come from");
    sasl(
        "mechanism: PLAIN, oauth: {tokenUrl: 'https://id.example.com/'}",
        "spec.kafka.sasl.oauth: belongs to another mechanism",
    );
    let url = |url: &str, want: &str| {
        let want = if want.is_empty() { String::new() } else { format!("spec.kafka.sasl.oauth.tokenUrl: {want}") };
        sasl(&format!("mechanism: OAUTHBEARER, oauth: {{{url}}}"), &want);
    };
    url("tokenUrl: 'http://id.svc:8080/token'", "the client's secret would travel in the clear");
    url("tokenUrl: 'http://id.svc:8080/token', allowPlainHttp: true", "");
    url("tokenUrl: 'http://localhost.example.com/token'", "the client's secret would travel in the clear");
    ["localhost:1", "127.0.0.1", "[::1]:1"].iter().for_each(|host| url(&format!("tokenUrl: 'http://{host}/t'"), ""));
    for strange in ["id.example.com/token", "https://", "https:///token", "https://me:s@id/", "https://id/ token"] {
        url(&format!("tokenUrl: '{strange}'"), "is no address of a token endpoint");
    }
    sasl(
        "mechanism: OAUTHBEARER, oauth: {tokenUrl: 'https://id/', extensions: {auth: x}}",
        "spec.kafka.sasl.oauth.extensions.auth: is no SASL extension",
    );
    check("process.checkpoints", "{store: 's3://bucket/prefix/', credentialsSecret: s}", "");
    check("process.checkpoints", "{store: /var/checkpoints}", "spec.process.checkpoints.store: is no bucket");
    check("process.checkpoints", "{store: 's3:///prefix'}", "spec.process.checkpoints.store: is no bucket");
    check(
        "process.checkpoints",
        "{credentialsSecret: s}",
        "spec.process.checkpoints.credentialsSecret: is for a store, and there is none: give store: s3://bucket/prefix/",
    );
    check("process.recovery", "1s", "spec.process.recovery: cannot be promised");
    check(
        "process.autoscale",
        "{minReplicas: 3, maxReplicas: 2}",
        "spec.process.autoscale.minReplicas: must be at most maxReplicas",
    );
    check("objectives", "{accuracy: 1.5}", "spec.objectives.accuracy: must be from 0 to 1");
}

#[test]
fn streams() {
    check("streams.events.topics", "[rwa]", "spec.streams[events].topics[0]: unknown topic \"rwa\"");
    check("streams.events.topics", "[raw, raw]", "spec.streams[events].topics[1]: the topic is named twice");
    check("streams.events.key", "user", "spec.streams[events].key: unknown column user in stream events");
    check(
        "streams.events.key",
        "~",
        "spec.streams[events].id: id needs key: a repeated event is recognised in its own partition only",
    );
    check(
        "streams.events.eventTime.field",
        "price",
        "spec.streams[events].eventTime.field: must name a timestamp column, and price is a decimal",
    );
    check(
        "streams.events.id.deduplicateWithin",
        "0s",
        "spec.streams[events].id.deduplicateWithin: must be longer than zero",
    );
    check(
        "streams.events.id.field",
        "n",
        "spec.streams[events].id.field: must name a string column, and n is a integer",
    );
    check(
        "streams.plain.quality",
        "{target: 0.9}",
        "spec.streams[plain].quality: needs eventTime: quality is judged per window of event time",
    );
    check(
        "streams.events.fields.price.path",
        "a..b",
        "spec.streams[events].fields[price].path: is no path into a JSON object",
    );
    check(
        "streams.events.fields.price.pii",
        "{hash: {keySecret: k}}",
        "spec.streams[events].fields[price].pii: only a string can be hashed, and the hash is a string",
    );
    check(
        "streams.events.enrich",
        "[{lookup: product, key: product_id, take: [brand]}]",
        "spec.streams[events].enrich[0].lookup: unknown lookup \"product\"",
    );
    check(
        "streams.events.enrich",
        "[{lookup: products, key: n, take: [brand]}]",
        "spec.streams[events].enrich[0].key: must name a string column, and n is a integer",
    );
    check(
        "streams.events.enrich",
        "[{lookup: products, key: product_id, take: [price]}]",
        "spec.streams[events].enrich[0].take[0]: stream events already has a column price",
    );
    check(
        "streams.events.derive",
        "[{name: d, as: price * m}]",
        "spec.streams[events].derive[d].as: unknown column m in stream events",
    );
    check(
        "streams.events.derive",
        "[{name: n, as: price}]",
        "spec.streams[events].derive[n]: stream events already has a column n",
    );
    check(
        "streams.events.derive",
        "[{name: a, as: b}, {name: b, as: n}]",
        "spec.streams[events].derive[a].as: unknown column b in stream events",
    );
    check(
        "streams.events.bots",
        "{userAgent: n}",
        "spec.streams[events].bots.userAgent: must name a string column, and n is a integer",
    );
    check(
        "streams.plain.topics",
        "~",
        "spec.streams[plain].topics: a stream has either topics or join, and this one neither",
    );
    check(
        "streams.events.rules.rule.check",
        "price",
        "spec.streams[events].rules[rule].check: must be a boolean, and is a decimal",
    );
    check(
        "streams.events.rules.rule.check",
        "sum(price) > 1",
        "spec.streams[events].rules[rule].check: sum is an aggregate: it is for select only, and not inside of another",
    );
}

#[test]
fn joins() {
    let join = "streams.pairs.join";
    let path = |part: &str, message: &str| format!("spec.streams[pairs].join.{part}: {message}");
    check(
        &format!("{join}.right"),
        "plain",
        &path("right", "a join needs event time, and stream plain has no eventTime"),
    );
    check(&format!("{join}.right"), "events", &path("right", "a stream cannot be joined with itself"));
    check(
        &format!("{join}.left"),
        "pairs",
        &path("left", "pairs is a join itself: joins are of streams that read topics"),
    );
    check(&format!("{join}.left"), "event", &path("left", "unknown stream \"event\""));
    check(&format!("{join}.within"), "~", &path("within", "is required"));
    check(&format!("{join}.match"), "events.price > 1", &path("match", "must compare one value of each side"));
    check(&format!("{join}.match"), "lower(offers.k) = product_id", "");
    check(&format!("{join}.match"), "price = k", &path("match", "must be a decimal, and is a string"));
    check(
        &format!("{join}.during"),
        "events.at between offers.until and offers.at",
        &path("during", "must say that the left event time lies between the right event time and an end"),
    );
    check(
        &format!("{join}.during"),
        "events.at > offers.at",
        &path("during", "must say that the left event time lies between the right event time and an end"),
    );
    check(
        "streams.pairs.key",
        "k",
        "spec.streams[pairs].key: a joined stream has join alone: say this on the streams that it joins",
    );
    check("tables.paired.groupBy", "[offers_at]", "");
    check("tables.paired.groupBy", "[offers.at]", "");
    check(
        "sinks.out",
        "{name: out, streams: [pairs], console: {}}",
        "spec.sinks[out].streams[0]: pairs is a join, whose pairs exist in tables only: take a table of it",
    );
}

#[test]
fn tables() {
    check("tables.sales.from", "event", "spec.tables[sales].from: unknown stream \"event\"");
    check(
        "tables.sales.from",
        "plain",
        "spec.tables[sales].groupBy[0]: unknown column product_id in stream plain\nspec.tables[sales].select.revenue: unknown column price in stream plain",
    );
    check("tables.sales.window", "{tumbling: 0s}", "spec.tables[sales].window.tumbling: must be longer than zero");
    check(
        "tables.sales.window",
        "{}",
        "spec.tables[sales].window: a window is exactly one of tumbling, hopping, session",
    );
    check(
        "tables.sales.window",
        "{tumbling: 1m, session: {gap: 1m}}",
        "spec.tables[sales].window: a window is exactly one of tumbling, hopping, session",
    );
    check(
        "tables.sales.window",
        "{hopping: {size: 1m, every: 2m}}",
        "spec.tables[sales].window.hopping.every: must be at most the size, or events would fall between windows",
    );
    check(
        "tables.sales.window",
        "{hopping: {size: 1d, every: 1s}}",
        "spec.tables[sales].window.hopping.every: every event would fall into 86400 windows",
    );
    check(
        "tables.sales.window",
        "{hopping: {size: 10m1ms, every: 1m}}",
        "spec.tables[sales].window.hopping.every: size and every have no larger common part: each window would be added up of too many panes",
    );
    check("tables.sales.window", "{hopping: {size: 7m, every: 2m}}", "");
    check("tables.sales.window", "~", "spec.tables[sales]: groups without a window would grow for ever");
    check(
        "tables.sales.keepFor",
        "1d",
        "spec.tables[sales].keepFor: a window bounds the table already: this is for tables without one",
    );
    check("tables.sales.groupBy", "[product_id, product_id]", "spec.tables[sales].groupBy[1]: is grouped by already");
    check("tables.sales.where", "price", "spec.tables[sales].where: must be a boolean, and is a decimal");
    check("tables.sales.emit", "{every: 5s, final: true}", "");
    check("tables.paired", "{name: paired, from: plain, select: {n: count()}}", "");
    check(
        "tables.paired",
        "{name: paired, from: plain, select: {n: last(k)}}",
        "spec.tables[paired].select: needs event time, and stream plain has none: first and last are so by event time",
    );
    check(
        "tables.paired",
        "{name: paired, from: plain, window: {tumbling: 1m}, select: {n: count()}}",
        "spec.tables[paired].window: needs event time, and stream plain has none: windows divide event time",
    );
    check(
        "tables.paired",
        "{name: paired, from: events, select: {n: count()}, emit: {final: true}}",
        "spec.tables[paired].emit.final: without a window no row is ever final",
    );
    check(
        "tables.paired",
        "{name: paired, from: events, window: {tumbling: 1m}}",
        "spec.tables[paired].select: a table has either select or funnel, and this one neither",
    );
}

#[test]
fn select() {
    let path = |name: &str, message: &str| format!("spec.tables[paired].select.{name}: {message}");
    let check = |select: &str, want: &str| {
        let head = "name: paired, from: events, window: {tumbling: 1m}, groupBy: [product_id]";
        check("tables.paired", &format!("{{{head}, select: {select}}}"), want);
    };
    check(
        "{x: price}",
        &path("x", "price has many values in a group: put it into an aggregate, such as last(price), or into groupBy"),
    );
    check("{x: product_id}", "");
    check("{x: y, y: count()}", "");
    check("{x: y + 1, y: x + 1}", &path("y", "x would need itself"));
    check("{x: x}", &path("x", "x would need itself"));
    check("{x: sum(sum(price))}", &path("x", "sum is an aggregate: it is for select only, and not inside of another"));
    check("{x: sum(product_id)}", &path("x", "must be a decimal, and is a string"));
    check("{x: sum()}", &path("x", "sum takes other arguments"));
    check("{x: \"top(0, product_id)\"}", &path("x", "must be a whole number from 1 to 1000, written as it is"));
    check(
        "{x: \"approx_percentile(price, 95)\"}",
        &path("x", "the quantile must be a number from 0 to 1, written as it is"),
    );
    check("{x: \"top(3, user_id)\", y: x}", "");
    check("{x: \"top(3, user_id)\", y: x = 1}", &path("y", "a list can only be shown, not compared"));
    check(
        "{product_id: count()}",
        &path(
            "product_id",
            "the table has another column of this name (upper and lower case are the same in databases)",
        ),
    );
    check("{window_start: count()}", &path("window_start", "every table has a column of this name already"));
    check("{1st: count()}", &path("1st", "is no name for a column"));
    check(
        "{x: count() over ()}",
        &path(
            "x",
            "count takes arguments and a filter only; over, within group and order by are not part of the language",
        ),
    );
    check("{x: abs(price) filter (where n = 1)}", &path("x", "abs is no aggregate: it has no distinct and no filter"));
    check("{x: orders / 2, orders: count(), z: \"avg(n) filter (where price > 1.5)\"}", "");
}

#[test]
fn funnels() {
    let path = |part: &str, message: &str| format!("spec.tables[funnel].{part}: {message}");
    check("tables.funnel.window", "{session: {gap: 1m}}", &path("window", "a funnel has a tumbling window or none"));
    check("tables.funnel.window", "~", "");
    check("tables.funnel.funnel.by", "user", &path("funnel.by", "unknown column user in stream events"));
    check(
        "tables.funnel.funnel.steps",
        "[{name: a, where: n = 1}]",
        &path("funnel.steps", "a funnel has from 2 to 16 steps"),
    );
    check(
        "tables.funnel.funnel.steps",
        "[{name: a, where: n = 1}, {name: a, where: n = 2}]",
        &path("funnel.steps[a].name", "the table has another column of this name"),
    );
    check(
        "tables.funnel.funnel.steps.b.where",
        "n",
        &path("funnel.steps[b].where", "must be a boolean, and is an integer"),
    );
    check("tables.funnel.select", "{x: count()}", &path("funnel", "a table has either select or funnel, not both"));
    check("tables.funnel.groupBy", "[product_id]", "");
}

#[test]
fn alerts() {
    let path = |part: &str, message: &str| format!("spec.alerts[alert].{part}: {message}");
    check("alerts.alert.table", "sale", &path("table", "unknown table \"sale\""));
    check("alerts.alert.when", "order > 1", &path("when", "unknown column order in table sales"));
    check("alerts.alert.when", "ordres > 1", &path("when", "unknown column ordres in table sales"));
    check("alerts.alert.when", "zscore(orders, 30) > 3", "");
    check(
        "alerts.alert.when",
        "zscore(orders, 1) > 3",
        &path("when", "must be a whole number from 2 to 1000, written as it is"),
    );
    check("alerts.alert.when", "zscore(product_id, 30) > 3", &path("when", "unknown column product_id"));
    check("alerts.alert", "{name: alert, table: funnel, when: conversion < 0.1, for: 3}", "");
    check("alerts.alert.notify", "[{}]", "spec.alerts[alert].notify[0]: a receiver has exactly one of webhook, topic");
    check(
        "alerts.alert.notify",
        "[{topic: raw}]",
        "spec.alerts[alert].notify[0].topic: stream events reads this topic: alerts are no events of it",
    );
}

#[test]
fn sinks() {
    let path = |part: &str, message: &str| format!("spec.sinks[out]{part}: {message}");
    let check = |sink: &str, want: &str| check("sinks.out", &format!("{{name: out, {sink}}}"), want);
    check("tables: [sale], console: {}", &path(".tables[0]", "unknown table \"sale\""));
    check("console: {}", &path("", "a sink takes tables, streams or topics, and this one none of them"));
    check(
        "tables: [sales]",
        &path("", "a sink has exactly one of couchbase, postgres, redis, parquet, kafka, console"),
    );
    check(
        "tables: [sales], console: {}, parquet: {path: x}",
        &path("", "a sink has exactly one of couchbase, postgres, redis, parquet, kafka, console"),
    );
    check(
        "tables: [sales], parquet: {path: x}",
        &path(
            ".tables",
            "a parquet sink does not take tables: files are only added to, so that rows which change do not fit",
        ),
    );
    check(
        "streams: [events], redis: {connectionSecret: r}",
        &path(".streams", "a redis sink does not take streams: it keeps rows up to date by their key"),
    );
    check(
        "streams: [events], postgres: {connectionSecret: p}",
        &path(".postgres.mode", "events have no key to be kept up to date by"),
    );
    check("streams: [events], where: price > 1, postgres: {connectionSecret: p, mode: insertOnce}", "");
    check(
        "streams: [events], where: orders > 1, console: {}",
        &path(".where", "unknown column orders in stream events"),
    );
    check(
        "streams: [events], kafka: {topic: raw}",
        &path(".kafka.topic", "stream events reads this topic: events would go in a circle"),
    );
    check(
        "tables: [sales], postgres: {connectionSecret: P_, mode: upsert}",
        &path(".postgres.connectionSecret", "is malformed"),
    );
}

#[test]
fn sources() {
    let path = |part: &str, message: &str| format!("spec.ingest[shop].{part}: {message}");
    let field = |generator: &str, part: &str, message: &str| {
        check("ingest.shop.synthetic.fields.x", generator, &path(&format!("synthetic.fields.x{part}"), message));
    };
    check("ingest.shop.topic", "row", &path("topic", "unknown topic \"row\""));
    check("ingest.shop.synthetic", "{}", &path("synthetic.fields", "a generator says what the fields look like"));
    check("ingest.shop.synthetic", "{realistic: true}", "");
    check(
        "ingest.shop.synthetic.startAt",
        "some day later",
        "spec.ingest[shop].synthetic.startAt: is no time\nspec.ingest[shop].synthetic.startAt: the generator's clock runs by eventsPerSecond, which is missing",
    );
    field(
        "{}",
        "",
        "a generated field has exactly one of uuid, sequence, oneOf, choice, weighted, now, decimal, integer, const, template, expression, sessionOf, from",
    );
    field("{oneOf: {format: user, count: 5}}", ".oneOf.format", "must hold one number");
    field(
        "{oneOf: {format: u%d, count: 5, share: {u1: 1.5}}}",
        ".oneOf.share",
        "shares are from 0 to 1, also their sum",
    );
    field("{decimal: {min: 5, max: 1}}", ".decimal", "min must be at most max");
    field("{weighted: {a: 0}}", ".weighted", "at least one weight is more than 0");
    field("{template: \"/{product}\"}", ".template", "unknown field product");
    field("{expression: n * m}", ".expression", "unknown column m in ingester shop");
    field("{from: product}", ".from", "unknown lookup \"product\"");
    field("{expression: x}", "", "the fields need each other in a circle");
    field("{uuid: {}, fixedPer: y}", ".fixedPer", "unknown field y");
    check(
        "ingest.shop",
        "{name: shop, topic: raw, dataset: {path: a.csv, pace: eventTime, eventsPerSecond: 1}}",
        &path("dataset.pace", "either pace or eventsPerSecond, not both"),
    );
    check(
        "ingest.shop",
        "{name: shop, topic: raw, dataset: {path: a.csv, speed: 2}}",
        &path("dataset.speed", "is for the pace of the event times"),
    );
    check(
        "ingest.shop",
        "{name: shop, topic: raw, dataset: {path: a.csv, volume: {}}}",
        &path("dataset.volume", "a volume has exactly one of configMap, persistentVolumeClaim"),
    );
    check(
        "ingest.shop",
        "{name: shop, http: {}, routes: [{topic: raw}, {when: n = 1, topic: other}]}",
        &path("routes[0]", "a route without when takes everything: the routes behind it would never be reached"),
    );
    check(
        "ingest.shop",
        "{name: shop, http: {}, routes: [{when: m = 1, topic: raw}, {topic: other}]}",
        &path("routes[0].when", "unknown column m"),
    );
}

#[test]
fn a_topic_is_not_copied_into_itself() {
    let told = |server: &str, topic: &str| {
        let own = BASE.replace("spec:\n", "spec:\n  kafka: {bootstrapServers: ['here:9092', 'there:9092']}\n");
        let synthetic = "synthetic: {fields: {user_id: {uuid: {}}, n: {integer: {min: 1, max: 2}}}}";
        let copied = own.replace(synthetic, &format!("kafka: {{bootstrapServers: ['{server}'], topic: {topic}}}"));
        assert!(copied.contains("there:9092") && copied.contains(&format!("topic: {topic}}}")), "{copied}");
        let problems = crds::check(&copied, &[]).err().unwrap_or_default();
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let circle = "spec.ingest[shop].kafka.topic: is the topic that the events go to: they would go in a circle";
    assert!(told("there:9092", "raw").contains(circle), "{}", told("there:9092", "raw"));
    for (server, topic) in [("there:9092", "foreign"), ("elsewhere:9092", "raw")] {
        assert_eq!(told(server, topic), "");
    }
}

#[test]
fn schedules_and_cases() {
    check(
        "schedules.nightly.cron",
        "daily",
        "spec.schedules[nightly].cron: is no schedule: Invalid pattern: Pattern must have between 5 and 7 fields.",
    );
    check(
        "schedules.nightly.replay.from",
        "out",
        "spec.schedules[nightly].replay.from: must name a sink that archives raw topics as Parquet",
    );
    check(
        "schedules.nightly.replay.tables",
        "[sale]",
        "spec.schedules[nightly].replay.tables[0]: unknown table \"sale\"",
    );
    let case = |given: &str, then: &str, want: &str| {
        check("tests", &format!("[{{name: c, given: [{given}], then: [{then}]}}]"), want)
    };
    case("{topic: raw, events: [{n: 1}]}", "{table: sales, rows: [{orders: 1}]}", "");
    case(
        "{events: [{n: 1}]}",
        "{table: sales}",
        "spec.tests[c].given[0].topic: is required, because the pipeline has several topics",
    );
    case("{topic: raw, events: [1]}", "{table: sales}", "spec.tests[c].given[0].events[0]: an event is a map");
    case(
        "{topic: raw}",
        "{table: sales, rows: [{order: 1}]}",
        "spec.tests[c].then[0].rows[0].order: unknown column order in table sales",
    );
    case(
        "{topic: raw}",
        "{stream: events, ledger: {reed: 1}}",
        "spec.tests[c].then[0].ledger.reed: unknown count reed",
    );
    case("{topic: raw}", "{}", "spec.tests[c].then[0]: an expectation has exactly one of table, stream, alert");
}

#[test]
fn overrides_reach_any_field() {
    check("spec.topics.raw.config.\"compression.type\"", "producer", "");
    check("topics.1.partitions", "9", "");
    check(
        "topics.nope.partitions",
        "9",
        "-s topics.nope.partitions: topics.nope.partitions names the item nope, but the list has only: raw, other",
    );
    check("suspend.x", "9", "spec.suspend: must be a boolean");
    check("topics.raw.name.x", "9", "-s topics.raw.name.x: topics.raw.name.x leads into \"raw\", which has no fields");
    check("a..b", "9", "-s a..b: a..b has an empty part between two dots");
    let checked = crds::check(BASE, &[("topics.raw.partitions".into(), "8".into())]).unwrap();
    assert_eq!(checked.plan.topics[0].partitions, 8);
    assert_eq!(checked.plan.shuffle_partitions, 8);
}
