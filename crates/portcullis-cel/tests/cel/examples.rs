//! What users write, the traps that they meet, and the limits.

use portcullis_cel::{EvalError, Program, Type, Value, limits};

use crate::ours;

const TOKEN: &str = r#"{"sub":"s","email":"a@example.com","g":["k8s-a","b"],"s":"a,b","exp":1999999999,"big":9007199254740993,"o":{"l":["x"]},"a.b":"dot","https://x/y":"url"}"#;

fn compile(expression: &str) -> Program {
    ours::claims().compile(expression).unwrap_or_else(|issues| panic!("{expression}: {issues}"))
}

fn run(expression: &str) -> Result<Value, EvalError> {
    compile(expression).evaluate(&("claims", ours::variable("claims", TOKEN)), limits::PER_CALL_COST)
}

/// The same without a limit of cost, to meet others.
fn run_at_any_cost(expression: &str) -> Result<String, String> {
    let evaluated = compile(expression).evaluate(&("claims", ours::variable("claims", TOKEN)), u64::MAX);
    evaluated.map(|value| ours::encode(&value)).map_err(|error| error.to_string())
}

fn value(expression: &str) -> String {
    ours::encode(&run(expression).unwrap_or_else(|error| panic!("{expression}: {error}")))
}

fn refused(expression: &str) -> (String, Vec<String>) {
    let issues = ours::claims().compile(expression).expect_err(expression);
    (issues.to_string(), issues.hints().into_iter().map(str::to_owned).collect())
}

#[test]
fn claims_have_the_values_that_kubernetes_gives_them() {
    for (expression, wanted) in [
        ("dyn(claims.g).filter(x, x.startsWith('k8s-')).map(x, x + '!')", r#"["k8s-a!"]"#),
        ("claims.o.l.map(x, x)", r#"["x"]"#),
        ("'b' in claims.g", "true"),
        ("['a'] + claims.g", r#"["a", "k8s-a", "b"]"#),
        ("claims.s.split(',').map(x, x)", r#"["a", "b"]"#),
        ("claims.?x.orValue([])", "[]"),
        ("has(claims.x) ? claims.x : null", "null"),
        ("claims['a.b']", r#""dot""#),
        ("claims.a__dot__b", r#""dot""#),
        ("claims['https://x/y']", r#""url""#),
        ("type(claims.exp) == double", "true"),
        ("string(claims.exp)", r#""1.999999999e+09""#),
        ("string(int(claims.exp))", r#""1999999999""#),
        ("string(claims.big)", r#""9.007199254740992e+15""#),
        ("claims.exp > 1", "true"),
    ] {
        assert_eq!(value(expression), wanted, "{expression}");
    }
    for (expression, wanted) in [
        ("claims.x", "no such key: x"),
        ("size(claims)", "no such overload: size"),
        ("'k' in claims", "no such overload"),
        ("1 / 0", "division by zero"),
    ] {
        assert_eq!(run(expression).unwrap_err().to_string(), wanted, "{expression}");
    }
}

#[test]
fn a_type_error_has_its_place_and_a_hint() {
    for (expression, text, hint) in [
        (
            "claims.g.map(x, x)",
            "ERROR: <input>:1:7: expression of type 'any' cannot be range of a comprehension (must be list, map, or \
             dynamic)\n | claims.g.map(x, x)\n | ......^",
            "write dyn(claims.g): what a claim holds is only known when a token comes",
        ),
        (
            "claims.?g.all(x, x)",
            "ERROR: <input>:1:7: expression of type 'optional_type(any)' cannot be range of a comprehension (must be list, \
             map, or dynamic)\n | claims.?g.all(x, x)\n | ......^",
            "write dyn(claims.?g.orValue([])): the value may be absent, and what a claim holds is only known when a token comes",
        ),
        (
            "claims.?g.orValue('').all(x, x)",
            "ERROR: <input>:1:18: expression of type 'any' cannot be range of a comprehension (must be list, map, or \
             dynamic)\n | claims.?g.orValue('').all(x, x)\n | .................^",
            "write dyn(claims.?g.orValue([])): what a claim holds is only known when a token comes",
        ),
        (
            "['a', claims.sub]",
            "ERROR: <input>:1:13: expected type 'string' but found 'any'\n | ['a', claims.sub]\n | ............^",
            "write string(claims.sub)",
        ),
        (
            "1.0 + 1",
            "ERROR: <input>:1:5: found no matching overload for '_+_' applied to '(double, int)'\n | 1.0 + 1\n | ....^",
            "write double(…) or a number with a point: int and double do not mix here",
        ),
        (
            "claim.sub",
            "ERROR: <input>:1:1: undeclared reference to 'claim' (in container '')\n | claim.sub\n | ^",
            "did you mean claims?",
        ),
        (
            "optional.of('a') + 'b'",
            "ERROR: <input>:1:18: found no matching overload for '_+_' applied to '(optional_type(string), string)'\n | \
             optional.of('a') + 'b'\n | .................^",
            "write ….orValue(…): the value may be absent",
        ),
    ] {
        let (shown, hints) = refused(expression);
        assert_eq!(shown, text);
        assert_eq!(hints, [hint], "{expression}");
    }
    let issues = ours::user().compile("user.groups.exists(g, g == 'a') && user.user_name == ''").unwrap_err();
    assert_eq!(issues.iter().count(), 1);
    assert!(issues.hints()[0].contains("username"), "{:?}", issues.hints());
    assert!(ours::user().compile("claims.sub").unwrap_err().hints()[0].contains("user"));
}

#[test]
fn the_output_type_tells_rules_apart() {
    assert_eq!(*compile("claims.sub == 'a'").output_type(), Type::Bool);
    assert_eq!(*compile("claims.sub").output_type(), Type::Any);
}

#[test]
fn the_cost_limit_is_met_exactly() {
    let program = compile("claims.g == claims.g");
    let variables = ("claims", ours::variable("claims", TOKEN));
    let cost = program.evaluate_counted(&variables, limits::PER_CALL_COST).cost;
    assert!(program.evaluate(&variables, cost).is_ok());
    assert!(matches!(program.evaluate(&variables, cost - 1), Err(EvalError::CostLimit)));
    let long = compile("lists.range(1000).all(a, lists.range(1000).all(b, a + b >= 0))");
    let evaluation = long.evaluate_counted(&variables, limits::PER_CALL_COST);
    assert_eq!(evaluation.result.unwrap_err().to_string(), "operation cancelled: actual cost limit exceeded");
    assert_eq!(evaluation.cost, limits::PER_CALL_COST + 1);
}

#[test]
fn expressions_are_no_longer_and_no_deeper_than_upstream_has_them() {
    let long = |size: usize| format!("'{}'", "a".repeat(size - 2));
    assert!(ours::claims().compile(&long(limits::CODE_POINTS)).is_ok());
    assert_eq!(
        refused(&long(limits::CODE_POINTS + 1)).0,
        "ERROR: <input>:-1:0: expression code point size exceeds limit: size: 100001, limit 100000"
    );
    let deep = |depth: usize| format!("{}1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(ours::claims().compile(&deep(249)).is_ok());
    assert_eq!(refused(&deep(250)).0, "ERROR: <input>:-1:0: expression recursion limit exceeded: 250");
    let wide = |count: usize| format!("1{}", " + 1".repeat(count));
    assert!(ours::claims().compile(&wide(250)).is_ok());
    assert_eq!(refused(&wide(251)).0, "ERROR: <input>:-1:0: max recursion depth exceeded");
    assert_eq!(refused(&wide(24_000)).0, "ERROR: <input>:-1:0: max recursion depth exceeded");
}

/// An expression that is called on `start` and then, `times` times, on what came of it.
fn chain(start: &str, call: &str, times: usize) -> String {
    format!("{start}{}", call.repeat(times))
}

#[test]
fn short_expressions_make_no_large_values() {
    let doubled = |times| chain("[[1]]", ".map(x, x + x)", times);
    assert_eq!(
        run_at_any_cost(&format!("{}.map(x, x.size())", doubled(20))).unwrap(),
        format!("[int({})]", limits::LIST_LENGTH)
    );
    let text = |length: usize| format!("'{}'", "a".repeat(length));
    let replaced = |length: usize| format!("{}.replace('a', {})", text(length), text(4096));
    assert_eq!(run_at_any_cost(&format!("{}.size()", replaced(4096))).unwrap(), format!("int({})", limits::TEXT_BYTES));
    let joined = |count: usize| format!("lists.range({count}).map(i, {}).join().size()", text(4096));
    assert_eq!(run_at_any_cost(&joined(4096)).unwrap(), format!("int({})", limits::TEXT_BYTES));
    // The next list would have 2,097,152 elements, and each of the next texts 4,096 bytes more.
    let flattened = format!("[{}].flatten()", ["lists.range(300000)"; 4].join(", "));
    for (expression, reason) in [
        (doubled(21), "a list is too long"),
        (doubled(60), "a list is too long"),
        (flattened, "a list is too long"),
        (format!("{}.size()", replaced(4097)), "a text is too long"),
        (joined(4097), "a text is too long"),
        (format!("{0} + {0}", replaced(4000)), "a text is too long"),
        (format!("bytes({0}) + bytes({0})", replaced(4000)), "a text is too long"),
        (format!("'{}'.format(lists.range(1000).map(i, 1.0))", "%.60000e".repeat(300)), "a text is too long"),
        (chain("['a']", ".map(x, x.replace('a', 'aaaaaaaaaaaaaaaa'))", 8), "a text is too long"),
        (format!("lists.range(400).map(i, {}).size()", replaced(300)), "too much text is made"),
        (format!("'%s'.format({})", chain("[1]", ".map(x, [x, x])", 25)), "too much text is made"),
    ] {
        let error = run_at_any_cost(&expression).expect_err(reason);
        assert_eq!(error, format!("operation cancelled: {reason}"), "{}", &expression[..60]);
    }
}

#[test]
fn short_expressions_walk_through_no_large_values() {
    // Each level has the one below it twice: what takes little memory takes long to walk through.
    let nested = |times| chain("[1]", ".map(x, [x, x])", times);
    assert_eq!(run_at_any_cost(&format!("{}.map(x, x == x)", nested(20))).unwrap(), "[true]");
    assert_eq!(run_at_any_cost(&format!("{}.size()", nested(60))).unwrap(), "int(1)");
    for (expression, reason) in [
        (format!("{}.map(x, x == x)", nested(60)), "values are looked at too often"),
        (format!("{}.includes(1)", nested(60)), "values are looked at too often"),
        (format!("lists.range(90).all(i, {}.all(x, x == x))", nested(18)), "values are looked at too often"),
        ("lists.range(5001).distinct()".to_owned(), "values are looked at too often"),
        ("sets.contains(lists.range(5001), lists.range(5001))".to_owned(), "values are looked at too often"),
        (
            "lists.range(5001).all(i, string(i).matches('1' + string(i)) || true)".to_owned(),
            "values are looked at too often",
        ),
        (nested(23), "the result is too large"),
    ] {
        let error = run_at_any_cost(&expression).expect_err(reason);
        assert_eq!(error, format!("operation cancelled: {reason}"), "{expression}");
    }
    let shown = run_at_any_cost(&format!("dyn([dyn('a'), dyn({})]).join()", nested(20))).unwrap_err();
    assert!(shown.starts_with("join: invalid input: [[[["), "{shown}");
    assert!(shown.len() < 32 << 10, "{}", shown.len());
}

#[test]
fn joining_list_after_list_needs_little_stack_and_time() {
    // 200 lists joined one by one in each of 100 steps: upstream has a tree 20,000 deep.
    let joined = chain("[[0]]", &format!(".map(x, x{})", " + [1]".repeat(40)), 100);
    let work = move || value(&format!("{joined}.map(x, x == x)"));
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(work).unwrap();
    assert_eq!(thread.join().unwrap(), "[true]");
}

#[test]
fn what_is_expanded_and_typed_is_bounded() {
    let mapped = |times| chain("optional.of(1)", ".optMap(x, x)", times);
    assert_eq!(value(&mapped(10)), "optional(int(1))");
    assert_eq!(
        refused(&mapped(100)).0,
        "ERROR: <input>:-1:0: expression is too large when its macros are expanded: limit 500000"
    );
    let typed = |times| chain("[1]", ".map(x, {x: x})", times);
    assert!(ours::claims().compile(&typed(10)).is_ok());
    let (shown, _) = refused(&typed(100));
    assert!(shown.contains("the types of the expression are too large: limit 1000000"), "{shown}");
}

#[test]
fn programs_are_shared_between_threads() {
    let program = compile("claims.sub + '!'");
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let program = program.clone();
            std::thread::spawn(move || {
                let variables = ("claims", ours::variable("claims", TOKEN));
                ours::encode(&program.evaluate(&variables, limits::PER_CALL_COST).unwrap())
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), r#""s!""#);
    }
}

/// Stack that a thread of tests has; the runtime's threads have as much.
const STACK: usize = 1 << 20;

#[test]
fn nested_expressions_need_little_stack() {
    let nested = |open: &str, inner: &str, close: &str, depth: usize| {
        format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
    };
    let shapes = [
        nested("(", "1", ")", 249),
        nested("[", "1", "]", 249),
        nested("{'a': ", "1", "}", 249),
        nested("size([", "1", "])", 120),
        nested("(true ? ", "1", " : 2)", 240),
        nested("[1].map(x, ", "1", ")", 200),
        nested("[1].all(x, ", "true", ")", 200),
        nested("optional.of(1).optMap(x, ", "1", ")", 100),
        nested("!(", "true", ")", 240),
        nested("'a'.replace('a', ", "'a'", ")", 240),
        nested("dyn(claims)[", "'a'", "]", 240),
        format!("[1]{}", " + [1]".repeat(250)),
    ];
    let work = move || {
        for expression in shapes {
            let variables = ("claims", ours::variable("claims", TOKEN));
            let evaluation = compile(&expression).evaluate_counted(&variables, limits::PER_CALL_COST);
            assert!(evaluation.cost <= limits::PER_CALL_COST);
        }
    };
    std::thread::Builder::new().stack_size(STACK).spawn(work).unwrap().join().unwrap();
}
