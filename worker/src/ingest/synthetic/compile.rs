//! From the manifest to a [`Model`]: names become columns, texts become patterns and expressions.

use std::collections::BTreeMap;

use crds::spec::{Any, Generator, Synthetic};
use engine::{
    plan::{ColumnPlan, StreamPlan},
    time::Millis,
    value::Type,
};

use super::{
    clock::Clock,
    field::{Draw, Field, Visitors},
    generator::{Malformed, Model},
    lookup::{self, Rows},
    random::{Random, Share},
    realistic,
};
use crate::ingest::{IngestError, expressions::Expression, layout::Layout};

/// What a generator needs to know besides its own part of the manifest.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Where it stands in the manifest, for messages.
    pub path: &'a str,
    /// The streams that read its topic.
    pub streams: &'a [&'a StreamPlan],
    /// Lookups by name.
    pub lookups: &'a BTreeMap<String, Rows>,
    /// The time of the first event.
    pub start: Millis,
    /// Events a second, on the generator's clock.
    pub rate: f64,
}

/// How a field is made.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there are a few, while a manifest is read")]
pub enum Way {
    /// As the manifest says, or would.
    Given(Generator),
    /// By visitors who come and go.
    Visitor(Visitors),
}

/// Makes the model of `spec`.
///
/// # Errors
/// Names the first field that cannot be made, and what would be accepted.
pub fn compile(spec: &Synthetic, around: Surroundings<'_>) -> Result<Model, IngestError> {
    let mut ways: Vec<(String, Way)> =
        spec.fields.iter().map(|(name, way)| (name.to_owned(), Way::Given(way.clone()))).collect();
    if spec.realistic {
        realistic::complete(&mut ways, around.streams, around.rate);
    }
    if ways.is_empty() {
        return Err(IngestError::Manifest {
            path: format!("{}.fields", around.path),
            message: "a generator needs fields, or `realistic: true` and a stream that reads its topic".into(),
        });
    }
    let mut compiler = Compiler { around, columns: Vec::new(), constants: Vec::new() };
    let placed = compiler.place(&ways)?;
    let mut fields = Vec::with_capacity(compiler.columns.len());
    // Two ingesters without a seed must not make the same ids.
    let seed = Random::new(spec.seed, around.path).at(0);
    for (ColumnPlan { name, ty }, placed) in compiler.columns.clone().into_iter().zip(placed) {
        let (draw, fixed_per) = match placed {
            Placed::Way(way) => compiler.draw(&ways[way], ty)?,
            Placed::Lookup { picked_by, of } => compiler.lookup_value(&name, picked_by, &of),
            Placed::Expression(expression) => (Draw::Expression(expression), None),
        };
        // What is fixed per something is the same wherever it is made: one price for each product.
        let random = Random::new(if fixed_per.is_some() { spec.seed } else { seed }, &name);
        fields.push(Field { name, ty, random, fixed_per, draw });
    }
    let shown = |name: &str| {
        compiler.columns.iter().position(|column| column.name == name).expect("every field has its column")
    };
    let layout = Layout::new(ways.iter().map(|(name, _)| (path_of(name, around.streams), shown(name))));
    let order = compiler.order(&fields, &layout)?;
    let key = around.streams.iter().find_map(|stream| stream.key.map(|key| &stream.fields[key].path));
    let key = key
        .and_then(|key| ways.iter().find(|(name, _)| path_of(name, around.streams) == *key))
        .map(|(name, _)| shown(name));
    Ok(Model {
        malformed: malformed(spec, &fields, &layout, around.streams),
        fields,
        order,
        layout,
        key,
        constants: compiler.constants,
        duplicates: Share::new(spec.duplicates),
        late: spec.late.as_ref().map_or((Share::new(0.0), 0), |late| (Share::new(late.share), late.by.millis)),
        seed,
        clock: Clock::new(around.start, around.rate),
    })
}

/// Where the value of a field lies in the event: as the stream says, or at the dots in its name.
#[must_use]
pub fn path_of(name: &str, streams: &[&StreamPlan]) -> Vec<String> {
    let known = streams.iter().flat_map(|stream| &stream.fields).find(|field| field.name == name);
    known.map_or_else(|| name.split('.').map(String::from).collect(), |field| field.path.clone())
}

fn malformed(spec: &Synthetic, fields: &[Field], layout: &Layout<usize>, streams: &[&StreamPlan]) -> Malformed {
    let decoded = |name: &str| streams.iter().flat_map(|stream| &stream.fields).find(|field| field.name == name);
    let members = || {
        layout.members.iter().enumerate().filter_map(|(at, member)| Some((at, decoded(&fields[member.source].name)?)))
    };
    Malformed {
        share: Share::new(spec.malformed),
        typed: members().map(|(at, _)| at).collect(),
        required: members().filter(|(_, field)| field.required).map(|(at, _)| at).collect(),
    }
}

/// What stands in a column.
enum Placed {
    /// The way of this index.
    Way(usize),
    /// A column of the lookup `of`, in the row that another column picked.
    Lookup { picked_by: usize, of: String },
    /// An expression.
    Expression(Expression),
}

/// What is known while the fields are placed.
pub(super) struct Compiler<'a> {
    pub(super) around: Surroundings<'a>,
    columns: Vec<ColumnPlan>,
    /// Texts of all constants so far.
    pub(super) constants: Vec<u8>,
}

impl Compiler<'_> {
    /// Gives every way a column: those whose type is plain first, then what lookups add, then expressions, each once
    /// all it reads has its place.
    fn place(&mut self, ways: &[(String, Way)]) -> Result<Vec<Placed>, IngestError> {
        let (mut placed, mut waiting) = (Vec::new(), Vec::new());
        for (at, (name, way)) in ways.iter().enumerate() {
            match self.type_of(name, way)? {
                Some(ty) => {
                    self.columns.push(ColumnPlan { name: name.clone(), ty });
                    placed.push(Placed::Way(at));
                }
                None => waiting.push(at),
            }
        }
        for at in 0..placed.len() {
            let Placed::Way(way) = placed[at] else { continue };
            if let Way::Given(Generator { from: Some(of), .. }) = &ways[way].1 {
                for (column, (ty, _)) in
                    &rows(self.around, of).map_err(|wrong| self.problem(&ways[way].0, &wrong))?.columns
                {
                    let name = format!("{of}.{column}");
                    if !self.columns.iter().any(|known| known.name == name) {
                        self.columns.push(ColumnPlan { name, ty: *ty });
                        placed.push(Placed::Lookup { picked_by: at, of: of.clone() });
                    }
                }
            }
        }
        while !waiting.is_empty() {
            let before = waiting.len();
            let mut problem = None;
            waiting.retain(|at| {
                let (name, Way::Given(Generator { expression: Some(text), .. })) = &ways[*at] else { return false };
                match self.parse(name, "expression", text) {
                    Ok(expr) => {
                        self.columns.push(ColumnPlan { name: name.clone(), ty: expr.type_of() });
                        placed.push(Placed::Expression(expr));
                        false
                    }
                    Err(error) => {
                        problem.get_or_insert(error);
                        true
                    }
                }
            });
            match problem {
                Some(problem) if waiting.len() == before => return Err(problem),
                _ => {}
            }
        }
        Ok(placed)
    }

    /// The type of a field; that of an expression shows later.
    fn type_of(&self, name: &str, way: &Way) -> Result<Option<Type>, IngestError> {
        let Way::Given(way) = way else { return Ok(Some(Type::String)) };
        let hint = self.around.streams.iter().flat_map(|stream| &stream.fields).find(|field| field.name == name);
        let hint = hint.map(|field| field.ty);
        Ok(Some(match way {
            Generator { expression: Some(_), .. } => return Ok(None),
            Generator { now: Some(_), .. } => Type::Timestamp,
            Generator { decimal: Some(_), .. } => Type::Decimal,
            Generator { integer: Some(_), .. } => Type::Integer,
            Generator { sequence: Some(sequence), .. } if sequence.format.is_none() => Type::Integer,
            Generator { weighted: Some(_), .. } => match hint {
                Some(ty @ (Type::Integer | Type::Decimal | Type::Boolean)) => ty,
                _ => Type::String,
            },
            Generator { choice: Some(values), .. } => self.common_type(name, values, hint)?,
            Generator { constant: Some(value), .. } => self.common_type(name, std::slice::from_ref(value), hint)?,
            _ => Type::String,
        }))
    }

    fn common_type(&self, name: &str, values: &[Any], hint: Option<Type>) -> Result<Type, IngestError> {
        let values = || values.iter().map(|value| &value.0).filter(|value| !value.is_null());
        if values().all(|value| value.is_string()) {
            return Ok(Type::String);
        }
        if values().all(|value| value.is_boolean()) {
            return Ok(Type::Boolean);
        }
        if hint != Some(Type::Decimal) && values().all(|value| value.is_i64()) {
            return Ok(Type::Integer);
        }
        if values().all(|value| value.is_number()) {
            return Ok(Type::Decimal);
        }
        Err(self.problem(name, "the values must be all texts, all numbers, or all booleans"))
    }

    fn lookup_value(&mut self, name: &str, picked_by: usize, of: &str) -> (Draw, Option<usize>) {
        let (ty, values) = &self.around.lookups[of].columns[&name[of.len() + 1..]];
        (Draw::LookupValue { picked_by, values: lookup::column(*ty, values, &mut self.constants) }, None)
    }

    pub(super) fn column(&self, name: &str, wanted: &str) -> Result<usize, IngestError> {
        let found = self.columns.iter().position(|column| column.name == wanted);
        found.ok_or_else(|| {
            let known: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
            self.problem(name, &format!("there is no field {wanted:?}; there are {}", known.join(", ")))
        })
    }

    pub(super) fn parse(&self, name: &str, part: &str, text: &str) -> Result<Expression, IngestError> {
        let parsed = Expression::parse(text, &self.columns);
        parsed.map_err(|wrong| self.problem(&format!("{name}.{part}"), &wrong))
    }

    /// An order in which every column comes behind those it reads; columns that nobody needs are left out.
    fn order(&self, fields: &[Field], layout: &Layout<usize>) -> Result<Vec<usize>, IngestError> {
        let mut order = Vec::with_capacity(fields.len());
        let mut path = Vec::new();
        for member in &layout.members {
            self.visit(member.source, fields, &mut path, &mut order)?;
        }
        Ok(order)
    }

    fn visit(
        &self,
        at: usize,
        fields: &[Field],
        path: &mut Vec<usize>,
        order: &mut Vec<usize>,
    ) -> Result<(), IngestError> {
        if order.contains(&at) {
            return Ok(());
        }
        if path.contains(&at) {
            return Err(self.problem(&fields[at].name, "the field needs its own value"));
        }
        path.push(at);
        let mut read = Vec::new();
        fields[at].reads(&mut |column| read.push(column));
        for column in read {
            self.visit(column, fields, path, order)?;
        }
        path.pop();
        order.push(at);
        Ok(())
    }

    pub(super) fn problem(&self, field: &str, message: &str) -> IngestError {
        IngestError::Manifest { path: format!("{}.fields.{field}", self.around.path), message: message.into() }
    }
}

/// The rows of the lookup `of`.
pub(super) fn rows<'a>(around: Surroundings<'a>, of: &str) -> Result<&'a Rows, String> {
    around.lookups.get(of).ok_or_else(|| format!("there is no lookup {of:?} with a file"))
}
