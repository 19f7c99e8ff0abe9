//! Typed expressions as text: what was understood, casts and all.

use engine::{
    expr::{Arithmetic, Compare, Expr, Function, Logic},
    plan::{Aggregate, AggregatePlan},
    value::Value,
};

/// Writes `expr` over columns of these names.
pub(super) fn text(expr: &Expr, names: &[&str]) -> String {
    let of = |expr: &Expr| text(expr, names);
    let inner = |expr: &Expr| match expr {
        Expr::Logic(..) | Expr::Compare(..) | Expr::Arithmetic(..) | Expr::Not(_) => format!("({})", of(expr)),
        _ => of(expr),
    };
    let all = |args: &[Expr]| args.iter().map(of).collect::<Vec<_>>().join(", ");
    match expr {
        Expr::Column(id, _) => names.get(*id).map_or_else(|| format!("column {id}"), |name| (*name).to_owned()),
        Expr::Literal(value, _) => literal(value),
        Expr::Not(arg) => match &**arg {
            Expr::IsNull(arg) => format!("{} is not null", inner(arg)),
            arg => format!("not {}", inner(arg)),
        },
        Expr::Negate(arg) => format!("-{}", inner(arg)),
        Expr::IsNull(arg) => format!("{} is null", inner(arg)),
        Expr::Logic(op, left, right) => {
            let word = if *op == Logic::And { "and" } else { "or" };
            let side = |expr: &Expr| match expr {
                Expr::Logic(other, ..) if other != op => format!("({})", of(expr)),
                _ => of(expr),
            };
            format!("{} {word} {}", side(left), side(right))
        }
        Expr::Compare(op, left, right) => format!("{} {} {}", inner(left), comparison(*op), inner(right)),
        Expr::Arithmetic(op, left, right) => format!("{} {} {}", inner(left), arithmetic(*op), inner(right)),
        Expr::In(arg, values) => {
            format!("{} in ({})", inner(arg), values.iter().map(literal).collect::<Vec<_>>().join(", "))
        }
        Expr::Like(arg, pattern) => format!("{} like '{pattern}'", inner(arg)),
        Expr::Case { branches, otherwise } => {
            let whens = branches.iter().map(|(when, then)| format!("when {} then {}", of(when), of(then)));
            format!("case {} else {} end", whens.collect::<Vec<_>>().join(" "), of(otherwise))
        }
        Expr::Coalesce(args) => format!("coalesce({})", all(args)),
        Expr::Cast(arg, ty) => format!("cast({} as {})", of(arg), ty.name()),
        Expr::Call(Function::SecondsBetween, args) if args.len() == 2 => {
            format!("seconds({} - {})", inner(&args[0]), inner(&args[1]))
        }
        Expr::Call(function, args) => format!("{}({})", function_name(*function), all(args)),
    }
}

fn literal(value: &Value) -> String {
    match value {
        Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        Value::Timestamp(at) => format!("timestamp '{}'", engine::time::rfc3339(*at)),
        value => {
            let mut out = Vec::new();
            value.write_json(&mut out);
            String::from_utf8_lossy(&out).into_owned()
        }
    }
}

fn comparison(op: Compare) -> &'static str {
    match op {
        Compare::Equal => "=",
        Compare::NotEqual => "<>",
        Compare::Less => "<",
        Compare::LessOrEqual => "<=",
        Compare::Greater => ">",
        Compare::GreaterOrEqual => ">=",
    }
}

fn arithmetic(op: Arithmetic) -> &'static str {
    match op {
        Arithmetic::Add => "+",
        Arithmetic::Subtract => "-",
        Arithmetic::Multiply => "*",
        Arithmetic::Divide => "/",
        Arithmetic::Remainder => "%",
    }
}

fn function_name(function: Function) -> String {
    let debug = format!("{function:?}");
    let mut name = String::new();
    for letter in debug.chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() && !name.ends_with('(') {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// Writes an aggregate over an input of these columns.
pub(super) fn aggregate(plan: &AggregatePlan, names: &[&str]) -> String {
    let argument = plan.argument.as_ref().map(|argument| text(argument, names)).unwrap_or_default();
    let call = match plan.function {
        Aggregate::Count => format!("count({argument})"),
        Aggregate::Sum => format!("sum({argument})"),
        Aggregate::Average => format!("avg({argument})"),
        Aggregate::Min => format!("min({argument})"),
        Aggregate::Max => format!("max({argument})"),
        Aggregate::CountDistinct => format!("count(distinct {argument})"),
        Aggregate::ApproxDistinct => format!("approx_distinct({argument})"),
        Aggregate::ApproxPercentile { quantile_ppm } => {
            format!("approx_percentile({argument}, {})", f64::from(quantile_ppm) / 1e6)
        }
        Aggregate::First => format!("first({argument})"),
        Aggregate::Last => format!("last({argument})"),
        Aggregate::LastN { count } => format!("last_n({count}, {argument})"),
        Aggregate::LastDistinct { count } => format!("last_distinct({count}, {argument})"),
        Aggregate::Top { count } => format!("top({count}, {argument})"),
        Aggregate::BoolOr => format!("bool_or({argument})"),
        Aggregate::BoolAnd => format!("bool_and({argument})"),
    };
    match &plan.filter {
        Some(filter) => format!("{call} filter (where {})", text(filter, names)),
        None => call,
    }
}
