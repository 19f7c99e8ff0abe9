//! Streams read from topics.

use engine::{
    plan::{
        BotPlan, ColumnPlan, DeduplicatePlan, EnrichPlan, EventTimePlan, FieldPlan, Input, LookupPlan, QualityPlan,
        RulePlan, StreamPlan, TopicPlan,
    },
    value::Type,
};

use super::{Source, columns};
use crate::{
    expression::{scope::Scope, typed},
    problem::{Report, field, named},
    spec::{BotAction, Enrich, Field, FieldType, PipelineSpec, Stream},
};

/// The type as the engine calls it.
pub(crate) fn type_of(ty: FieldType) -> Type {
    match ty {
        FieldType::Boolean => Type::Boolean,
        FieldType::Integer => Type::Integer,
        FieldType::Decimal => Type::Decimal,
        FieldType::String => Type::String,
        FieldType::Timestamp => Type::Timestamp,
    }
}

/// Lookups that streams enrich with, and the columns that any of them takes.
pub(super) fn lookups(spec: &PipelineSpec) -> Vec<LookupPlan> {
    let takes = || spec.streams.iter().flat_map(|stream| &stream.enrich);
    let used = spec.lookups.iter().filter(|lookup| takes().any(|enrich| enrich.lookup == lookup.name));
    used.map(|lookup| {
        let mut columns: Vec<ColumnPlan> = Vec::new();
        for name in takes().filter(|enrich| enrich.lookup == lookup.name).flat_map(|enrich| &enrich.take) {
            let declared = lookup.fields.iter().find(|field| field.name == *name);
            let ty = declared.map_or(Type::String, |field| type_of(field.ty));
            if !columns.iter().any(|column| column.name == *name) {
                columns.push(ColumnPlan { name: name.clone(), ty });
            }
        }
        LookupPlan { name: lookup.name.clone(), key: lookup.key.clone(), columns }
    })
    .collect()
}

/// Lowers all streams that read topics; each joins `sources`.
pub(super) fn streams(
    spec: &PipelineSpec,
    topics: &[TopicPlan],
    lookups: &[LookupPlan],
    sources: &mut Vec<Source>,
    report: &mut Report,
) -> Vec<Option<StreamPlan>> {
    let mut plans = Vec::new();
    for stream in &spec.streams {
        let path = named("spec.streams", &stream.name);
        match (stream.topics.is_empty(), &stream.join) {
            (false, None) => {
                let input = Input::Stream(plans.len());
                let lowering = Lowering { spec, stream, path: &path, topics, lookups, report };
                let (plan, scope) = lowering.lower();
                let timed = stream.event_time.is_some() || report.lost(&field(&path, "eventTime"));
                sources.push(Source { name: stream.name.clone(), scope, input, timed });
                plans.push(plan);
            }
            (true, Some(_)) => {}
            (false, Some(_)) => report.add(&field(&path, "join"), "a stream has either topics or join, not both"),
            (true, None) => {
                if !report.lost(&path) {
                    report.add(&field(&path, "topics"), "a stream has either topics or join, and this one neither");
                }
                report.lose(&path);
            }
        }
    }
    plans
}

struct Lowering<'a> {
    spec: &'a PipelineSpec,
    stream: &'a Stream,
    path: &'a str,
    topics: &'a [TopicPlan],
    lookups: &'a [LookupPlan],
    report: &'a mut Report,
}

impl Lowering<'_> {
    /// Lowers the stream. The scope has all columns whose names are known, also where there is no plan.
    fn lower(mut self) -> (Option<StreamPlan>, Scope) {
        let problems_before = self.report.problems.len();
        let mut scope = Scope { what: format!("stream {}", self.stream.name), ..Scope::default() };
        scope.incomplete =
            ["fields", "enrich", "derive"].iter().any(|part| self.report.lost_items(&field(self.path, part)).1);
        let topics = self.topics();
        let fields = self.fields(&mut scope);
        self.lost(&mut scope);
        let key = self.stream.key.as_ref().and_then(|name| self.column(&scope, name, "key", None));
        let event_time = self.event_time(&scope);
        let deduplicate = self.deduplicate(&scope);
        let rules = self.rules(&scope);
        let quality = self.quality();
        let enrich = self.enrich(&mut scope);
        let bots = self.bots(&mut scope);
        let derive = self.derive(&mut scope);
        let columns =
            scope.columns.iter().filter_map(|column| column.ty.map(|ty| ColumnPlan { name: column.name.clone(), ty }));
        let plan = StreamPlan {
            name: self.stream.name.clone(),
            topics,
            key,
            fields,
            columns: columns.collect(),
            event_time,
            deduplicate,
            rules,
            enrich,
            bots,
            derive,
            quality,
            silver: self.spec.sinks.iter().any(|sink| sink.streams.contains(&self.stream.name)),
        };
        ((problems_before == self.report.problems.len()).then_some(plan), scope)
    }

    /// Columns that are wrong have names all the same.
    fn lost(&mut self, scope: &mut Scope) {
        for part in ["fields", "derive"] {
            let (names, _) = self.report.lost_items(&field(self.path, part));
            names.iter().for_each(|name| scope.push(name, None));
        }
        if self.report.lost(&field(self.path, "bots")) {
            scope.push("is_bot", None);
        }
    }

    fn topics(&mut self) -> Vec<usize> {
        let mut indices = Vec::new();
        for (at, name) in self.stream.topics.iter().enumerate() {
            let path = format!("{}.topics[{at}]", self.path);
            match self.topics.iter().position(|topic| topic.name == *name) {
                Some(index) if indices.contains(&index) => self.report.add(&path, "the topic is named twice"),
                Some(index) => indices.push(index),
                None => columns::unknown(
                    self.report,
                    &path,
                    "topic",
                    name,
                    "spec.topics",
                    self.spec.topics.iter().map(|topic| topic.name.as_str()),
                ),
            }
        }
        indices
    }

    fn fields(&mut self, scope: &mut Scope) -> Vec<FieldPlan> {
        let stream = self.stream;
        if stream.fields.is_empty() && !scope.incomplete {
            self.report.add(&field(self.path, "fields"), "a stream has at least one field");
        }
        let mut plans = Vec::new();
        for declared in &stream.fields {
            let path = named(&field(self.path, "fields"), &declared.name);
            if declared.pii.is_some() && declared.ty != FieldType::String {
                self.report.add(&field(&path, "pii"), "only a string can be hashed, and the hash is a string");
            }
            scope.push(&declared.name, Some(type_of(declared.ty)));
            plans.push(FieldPlan {
                name: declared.name.clone(),
                path: self.json_path(declared, &path),
                ty: type_of(declared.ty),
                required: declared.required,
                hashed: declared.pii.is_some(),
            });
        }
        plans
    }

    fn json_path(&mut self, declared: &Field, path: &str) -> Vec<String> {
        let text = declared.path.as_deref().unwrap_or(&declared.name);
        let keys: Vec<String> = text.split('.').map(str::to_owned).collect();
        if keys.iter().any(String::is_empty) || keys.len() > 16 {
            let problem = self.report.problem(&field(path, "path"), "is no path into a JSON object");
            self.report.push(problem.accepts("at most 16 keys with dots between them, such as payload.user.id"));
        }
        keys
    }

    /// The column called `name`, of type `ty` if one is wanted; `part` is the field that names it.
    fn column(&mut self, scope: &Scope, name: &str, part: &str, ty: Option<Type>) -> Option<usize> {
        columns::find(self.report, &field(self.path, part), scope, name, ty)
    }

    fn event_time(&mut self, scope: &Scope) -> Option<EventTimePlan> {
        let declared = self.stream.event_time.as_ref()?;
        Some(EventTimePlan {
            column: self.column(scope, &declared.field, "eventTime.field", Some(Type::Timestamp))?,
            out_of_orderness_ms: declared.out_of_orderness.millis,
            idle_after_ms: declared.idle_after.millis,
        })
    }

    fn deduplicate(&mut self, scope: &Scope) -> Option<DeduplicatePlan> {
        let declared = self.stream.id.as_ref()?;
        let path = field(self.path, "id");
        if self.stream.key.is_none() && !self.report.lost(&field(self.path, "key")) {
            let problem =
                self.report.problem(&path, "id needs key: a repeated event is recognised in its own partition only");
            self.report.push(problem.accepts("key: <the field that the producer partitions by>"));
        }
        self.needs_time(&path, "an id is remembered for a length of event time");
        columns::positive(self.report, &field(&path, "deduplicateWithin"), declared.deduplicate_within);
        let column = self.column(scope, &declared.field, "id.field", Some(Type::String))?;
        Some(DeduplicatePlan { column, within_ms: declared.deduplicate_within.millis })
    }

    fn needs_time(&mut self, path: &str, why: &str) {
        let lost = self.report.lost(&field(self.path, "eventTime"));
        if self.stream.event_time.is_none() && !lost {
            let problem = self.report.problem(path, format!("needs eventTime: {why}"));
            self.report.push(problem.accepts("eventTime: {field: <a timestamp field>, outOfOrderness: 1m}"));
        }
    }

    fn rules(&mut self, scope: &Scope) -> Vec<RulePlan> {
        let mut plans = Vec::new();
        for rule in &self.stream.rules {
            let path = field(&named(&field(self.path, "rules"), &rule.name), "check");
            match typed(&rule.check, &mut scope.clone(), Some(Type::Boolean)) {
                Ok(check) => plans.push(RulePlan { name: rule.name.clone(), check }),
                Err(problems) => self.report.expression(&path, problems),
            }
        }
        plans
    }

    fn quality(&mut self) -> Option<QualityPlan> {
        let quality = self.stream.quality.as_ref()?;
        let path = field(self.path, "quality");
        self.needs_time(&path, "quality is judged per window of event time");
        columns::positive(self.report, &field(&path, "over"), quality.over);
        Some(QualityPlan { target_ppm: (quality.target * 1e6).round() as u32, over_ms: quality.over.millis })
    }

    fn enrich(&mut self, scope: &mut Scope) -> Vec<EnrichPlan> {
        let mut plans = Vec::new();
        for (at, enrich) in self.stream.enrich.iter().enumerate() {
            let path = format!("{}.enrich[{at}]", self.path);
            let key = columns::find(self.report, &field(&path, "key"), scope, &enrich.key, Some(Type::String));
            let lookup = self.lookups.iter().position(|lookup| lookup.name == enrich.lookup);
            if lookup.is_none() {
                let names = self.spec.lookups.iter().map(|lookup| lookup.name.as_str());
                columns::unknown(self.report, &field(&path, "lookup"), "lookup", &enrich.lookup, "spec.lookups", names);
            }
            let take = self.take(enrich, lookup, &path, scope);
            if let (Some(lookup), Some(key)) = (lookup, key) {
                plans.push(EnrichPlan { lookup, key, take });
            }
        }
        plans
    }

    fn take(&mut self, enrich: &Enrich, lookup: Option<usize>, path: &str, scope: &mut Scope) -> Vec<usize> {
        let mut indices = Vec::new();
        for (at, name) in enrich.take.iter().enumerate() {
            let columns = lookup.map(|lookup| self.lookups[lookup].columns.as_slice()).unwrap_or_default();
            let index = columns.iter().position(|column| column.name == *name);
            columns::add(self.report, &format!("{path}.take[{at}]"), scope, name, index.map(|index| columns[index].ty));
            indices.extend(index);
        }
        indices
    }

    fn bots(&mut self, scope: &mut Scope) -> Option<BotPlan> {
        let bots = self.stream.bots.as_ref()?;
        let column = self.column(scope, &bots.user_agent, "bots.userAgent", Some(Type::String));
        columns::add(self.report, &field(self.path, "bots"), scope, "is_bot", Some(Type::Boolean));
        Some(BotPlan { column: column?, drop: bots.action == BotAction::Drop })
    }

    fn derive(&mut self, scope: &mut Scope) -> Vec<engine::expr::Expr> {
        let mut exprs = Vec::new();
        for derived in &self.stream.derive {
            let path = named(&field(self.path, "derive"), &derived.name);
            let result = typed(&derived.expression, &mut scope.clone(), None);
            columns::add(self.report, &path, scope, &derived.name, result.as_ref().ok().map(|expr| expr.type_of()));
            match result {
                Ok(expr) => exprs.push(expr),
                Err(problems) => self.report.expression(&field(&path, "as"), problems),
            }
        }
        exprs
    }
}
