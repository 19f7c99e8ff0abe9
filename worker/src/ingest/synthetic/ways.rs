//! From the ways of the manifest to draw: formats, weights, ranges, templates.

use std::collections::BTreeMap;

use crds::spec::{Any, Generator, GeneratorCase, Ordered};
use engine::{
    column::{Column, Data, Span},
    decimal::Decimal,
    value::{Type, Value},
};

use super::{
    compile::{Compiler, Way, rows},
    field::{Draw, Numbered, Pick, Piece, Visitors, Weights},
    lookup,
    pattern::Pattern,
    random::Share,
};
use crate::ingest::{IngestError, limits::VALUES_KEPT_MAX};

impl Compiler<'_> {
    /// Decides how a field is made, and which other column decides its value, if one does.
    pub(super) fn draw(&mut self, (name, way): &(String, Way), ty: Type) -> Result<(Draw, Option<usize>), IngestError> {
        let way = match way {
            Way::Given(way) => way,
            Way::Visitor(visitors) => {
                let Visitors { pattern, count, places, stay } = visitors;
                let (pattern, count, places, stay) = (pattern.clone(), *count, *places, *stay);
                return Ok((Draw::Visitor(Visitors { pattern, count, places, stay }), None));
            }
        };
        let fixed_per = way.fixed_per.as_ref().map(|per| self.column(name, per)).transpose()?;
        let pattern = |text: &str| Pattern::parse(text).map_err(|wrong| self.problem(name, &wrong));
        let draw = match way {
            Generator { uuid: Some(_), .. } => Draw::Uuid,
            Generator { sequence: Some(sequence), .. } => {
                let pattern = sequence.format.as_deref().map(pattern).transpose()?;
                Draw::Sequence { start: sequence.start, pattern }
            }
            Generator { one_of: Some(one_of), .. } => {
                let pattern = pattern(&one_of.format)?;
                self.numbered(name, pattern, one_of.count, &one_of.share)?
            }
            Generator { now: Some(now), .. } => {
                Draw::Now { jitter_ms: now.jitter.map_or(0, |jitter| jitter.millis.unsigned_abs()) }
            }
            Generator { decimal: Some(range), .. } => {
                let step = 10_i128.pow(9 - u32::from(range.digits.min(9)));
                let bound = |value: f64| Decimal::from_f64(value).map(|value| value.0.div_euclid(step));
                match bound(range.min).zip(bound(range.max)) {
                    Some((min, max)) if min <= max && max - min < i128::from(u64::MAX) => {
                        Draw::Decimal { min: min * step, count: (max - min) as u64 + 1, step }
                    }
                    _ => return Err(self.problem(name, "min must be at most max")),
                }
            }
            Generator { integer: Some(range), .. } if range.min <= range.max => {
                Draw::Integer { min: range.min, count: (range.max.wrapping_sub(range.min) as u64).wrapping_add(1) }
            }
            Generator { integer: Some(_), .. } => return Err(self.problem(name, "min must be at most max")),
            Generator { template: Some(text), .. } => Draw::Template(self.template(name, text)?),
            Generator { session_of: Some(session), .. } => Draw::Session {
                pattern: pattern(&session.format)?,
                key: self.column(name, &session.key)?,
                idle_ms: session.idle.millis,
            },
            Generator { from: Some(of), .. } => {
                let rows = rows(self.around, of).map_err(|wrong| self.problem(name, &wrong))?;
                Draw::LookupKey { keys: lookup::column(Type::String, &rows.keys, &mut self.constants) }
            }
            Generator { constant: Some(value), .. } if way.cases.is_empty() => {
                Draw::Constant(lookup::typed(&value.0, ty))
            }
            Generator { weighted, choice, constant, .. } => {
                let otherwise = self.weights(name, weighted.as_ref(), choice.as_deref(), constant.as_ref(), ty)?;
                self.pick(name, otherwise, &way.cases, ty)?
            }
        };
        Ok((draw, fixed_per))
    }

    fn numbered(
        &mut self,
        name: &str,
        pattern: Pattern,
        count: u64,
        share: &BTreeMap<String, f64>,
    ) -> Result<Draw, IngestError> {
        let mut shares = Vec::with_capacity(share.len());
        for (text, share) in share {
            let number = pattern.number(text).filter(|number| (1..=count).contains(number));
            let number = number
                .ok_or_else(|| self.problem(name, &format!("share names {text:?}, which is none of the {count}")))?;
            shares.push((number, *share));
        }
        shares.sort_by_key(|(number, _)| *number);
        let mut sum = 0.0;
        let shares: Vec<(u64, Share)> = shares
            .into_iter()
            .map(|(number, share)| {
                sum += share;
                (number, Share::new(sum))
            })
            .collect();
        if sum > 1.000_000_1 || (shares.len() as u64 == count && sum < 0.999_999_9) {
            return Err(
                self.problem(name, &format!("the shares come to {sum}; expected at most 1, and 1 if all have one"))
            );
        }
        let kept = (count <= VALUES_KEPT_MAX).then(|| {
            let mut column = Column::new(Type::String);
            for number in 1..=count {
                let start = self.constants.len();
                pattern.write(number, &mut self.constants);
                column.valid.push(true);
                if let Data::String(spans) = &mut column.data {
                    spans.push(Span { start: start as u32, len: (self.constants.len() - start) as u32 });
                }
            }
            column
        });
        Ok(Draw::Numbered(Numbered { pattern, count, shares, kept }))
    }

    /// The constants of a field or case with their weights.
    fn weights(
        &self,
        name: &str,
        weighted: Option<&Ordered<f64>>,
        choice: Option<&[Any]>,
        constant: Option<&Any>,
        ty: Type,
    ) -> Result<Vec<(Value, f64)>, IngestError> {
        let values: Vec<(Value, f64)> = match (weighted, choice, constant) {
            (Some(weighted), ..) => weighted.iter().map(|(text, weight)| (read_key(text, ty), *weight)).collect(),
            (None, Some(choice), _) => choice.iter().map(|value| (lookup::typed(&value.0, ty), 1.0)).collect(),
            (None, None, Some(constant)) => vec![(lookup::typed(&constant.0, ty), 1.0)],
            (None, None, None) => {
                return Err(self.problem(
                    name,
                    "says no way to make a value; expected one of uuid, sequence, oneOf, choice, \
                    weighted, now, decimal, integer, const, template, expression, sessionOf, from",
                ));
            }
        };
        let sum: f64 = values.iter().map(|(_, weight)| *weight).sum();
        if values.iter().any(|(_, weight)| *weight < 0.0) || !sum.is_finite() || sum <= 0.0 {
            return Err(self.problem(name, "weights must not be negative, and must not all be 0"));
        }
        Ok(values)
    }

    fn pick(
        &mut self,
        name: &str,
        otherwise: Vec<(Value, f64)>,
        cases: &[GeneratorCase],
        ty: Type,
    ) -> Result<Draw, IngestError> {
        let mut values = Vec::new();
        let mut add = |weighted: Vec<(Value, f64)>| {
            let first = values.len() as u32;
            let (constants, weights): (Vec<Value>, Vec<f64>) = weighted.into_iter().unzip();
            values.extend(constants);
            Weights::new(first, &weights)
        };
        let otherwise = add(otherwise);
        let mut parsed = Vec::with_capacity(cases.len());
        for case in cases {
            let when = self.parse(name, "cases.when", &case.when)?;
            if when.type_of() != Type::Boolean {
                return Err(self.problem(name, &format!("`{}` is not a condition", case.when)));
            }
            let weighted =
                self.weights(name, case.weighted.as_ref(), case.choice.as_deref(), case.constant.as_ref(), ty)?;
            parsed.push((when, add(weighted)));
        }
        Ok(Draw::Pick(Pick { values: lookup::column(ty, &values, &mut self.constants), cases: parsed, otherwise }))
    }

    fn template(&self, name: &str, text: &str) -> Result<Vec<Piece>, IngestError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let Some((field, behind)) = behind.split_once('}') else {
                return Err(self.problem(name, "a brace of the template is never closed"));
            };
            pieces.push(Piece::Text(before.into()));
            pieces.push(Piece::Column(self.column(name, field.trim())?));
            rest = behind;
        }
        pieces.push(Piece::Text(rest.into()));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        Ok(pieces)
    }
}

/// A key of a map as a value of its type.
fn read_key(text: &str, ty: Type) -> Value {
    let json = if ty == Type::String { None } else { serde_json::from_str(text).ok() };
    lookup::typed(&json.unwrap_or_else(|| text.into()), ty)
}
