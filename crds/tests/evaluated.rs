//! What expressions mean: text is parsed, typed and evaluated by the engine's kernels.

#![expect(clippy::unwrap_used, reason = "a failing fixture is a failing test")]

use crds::expression;
use engine::{column::Column, kernel::Program, plan::ColumnPlan, value::Type, value::Value};

fn columns() -> Vec<(ColumnPlan, Value)> {
    let column = |name: &str, ty: Type, value: Value| (ColumnPlan { name: name.into(), ty }, value);
    let decimal = |text: &str| Value::Decimal(engine::decimal::Decimal::parse(text.as_bytes()).unwrap());
    vec![
        column("n", Type::Integer, Value::Integer(7)),
        column("d", Type::Decimal, decimal("2.5")),
        column("s", Type::String, Value::String("Shoe 42".into())),
        column("b", Type::Boolean, Value::Boolean(true)),
        column("t", Type::Timestamp, Value::Timestamp(1_740_819_661_500)),
        column("u", Type::Timestamp, Value::Timestamp(1_740_819_600_000)),
        column("nothing", Type::String, Value::Null),
        column("missing", Type::Decimal, Value::Null),
    ]
}

fn evaluate(text: &str) -> String {
    let columns = columns();
    let plans: Vec<ColumnPlan> = columns.iter().map(|(plan, _)| plan.clone()).collect();
    let expr = match expression::parse(text, &plans) {
        Ok(expr) => expr,
        Err(problems) => return format!("{}: {}", problems[0].offset, problems[0].message),
    };
    let mut arena = Vec::new();
    let data: Vec<Column> = columns
        .iter()
        .map(|(plan, value)| {
            let mut column = Column::new(plan.ty);
            column.push_value(value, &mut arena);
            column
        })
        .collect();
    let mut program = Program::compile(&expr);
    let result = program.eval(&data, 1, &mut arena).clone();
    let mut out = Vec::new();
    result.value(0, &arena).write_json(&mut out);
    String::from_utf8(out).unwrap()
}

#[track_caller]
fn check(text: &str, want: &str) {
    assert_eq!(evaluate(text), want, "{text}");
}

#[test]
fn numbers() {
    check("n + 1", "8");
    check("n + d", "9.5");
    check("n / 2", "3.5");
    check("1 / 3", "0.333333333");
    check("n / 0", "null");
    check("n % 4", "3");
    check("-n * 2", "-14");
    check("-(-3)", "3");
    check("abs(-d)", "2.5");
    check("round(10 / 3.0, 2)", "3.33");
    check("round(d)", "2");
    check("floor(d) + ceil(d)", "5");
    check("least(n, d, 9)", "2.5");
    check("greatest(n, missing)", "7");
    check("n + missing", "null");
    check("9223372036854775807 + 1", "null");
    check("99999999999999999999.5", "99999999999999999999.5");
    check("cast('12.50' as decimal) + 1", "13.5");
    check("cast(d as integer)", "2");
    check("nullif(n, 7)", "null");
}

#[test]
fn conditions() {
    check("n > 2.5 and d = 2.5", "true");
    check("n between 7 and 9", "true");
    check("n not between 7 and 9", "false");
    check("n in (1, 7, 9)", "true");
    check("d in (1, 2.5)", "true");
    check("n in (7.0, 1.5)", "true");
    check("s in ('Shoe 42')", "true");
    check("s not in ('a', 'b')", "true");
    check("nothing in ('a')", "null");
    check("nothing = 'a' or b", "true");
    check("nothing = 'a' and b", "null");
    check("nothing is null and s is not null", "true");
    check("missing is null", "true");
    check("not b", "false");
    check("(nothing = 'a') is true", "false");
    check("(nothing = 'a') is not true", "true");
    check("b is false", "false");
    check("b = true", "true");
    check("s like 'Shoe %'", "true");
    check("s ilike 'shoe __'", "true");
    check("s not like '%x%'", "true");
    check("t > '2025-03-01T09:00:00Z'", "true");
    check("t > '2025-03-01 10:00:00+01:00' and t < '2025-03-02'", "true");
    check("t between u and timestamp '2025-03-01T09:02:00Z'", "true");
    check("t in ('2025-03-01T09:01:01.5Z')", "true");
}

#[test]
fn texts_and_times() {
    check("s || '!'", "\"Shoe 42!\"");
    check("s || nothing", "null");
    check("concat(s, nothing, '!')", "\"Shoe 42!\"");
    check("lower(s)", "\"shoe 42\"");
    check("upper(trim('  a '))", "\"A\"");
    check("length(s)", "7");
    check("substring(s, 1, 4)", "\"Shoe\"");
    check("substring(s from 6)", "\"42\"");
    check("split_part(s, ' ', 2)", "\"42\"");
    check("starts_with(s, 'Sh') and ends_with(s, '2') and contains(s, 'oe')", "true");
    check("cast(n as string)", "\"7\"");
    check("t - u", "61.5");
    check("extract(minute from t)", "1");
    check("extract(dow from t)", "6");
    check("date_trunc('hour', t)", "\"2025-03-01T09:00:00Z\"");
    check("coalesce(nothing, s)", "\"Shoe 42\"");
    check("coalesce(missing, n)", "7");
    check("case when n > 5 then 'many' when n > 1 then 'some' else 'few' end", "\"many\"");
    check("case when n > 9 then 1 end", "null");
    check("case s when 'Shoe 42' then 1 else 2.5 end", "1");
}

#[test]
fn mistakes_point_into_the_text() {
    check("n + s", "4: must be a decimal, and is a string");
    check("n + x", "4: unknown column x");
    check("n +", "3: not an expression: an expression is expected, found: the end");
    check("lower(n)", "6: must be a string, and is an integer");
    check("n = 'a'", "4: must be an integer, and is a string");
    check("t = 'noon'", "4: is compared with a timestamp, but is no time");
    check("coalesce(null, null)", "0: every argument is null");
    check("n like 'a'", "0: must be a string, and is an integer");
    check("n ^ 2", "0: the operator ^ is not part of the language");
    check("count()", "0: count is an aggregate: it is for select only, and not inside of another");
    check("extract(century from t)", "21: unknown unit of time CENTURY");
    check("a.b", "0: unknown column a.b");
    check("'open", "0: not an expression: unterminated string literal");
}
