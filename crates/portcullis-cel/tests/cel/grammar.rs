//! Random expressions from a grammar: each starts from one [`Production`](crate::productions) whose holes are filled with
//! others. Some holes get the wrong type, and some texts a token too many or too few.

use crate::oracle::Case;
use crate::productions::{ATOMS, CLAIMS, PRODUCTIONS, USERS};

/// Numbers that look random, from a seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits") % limit.max(1)
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len())]
    }
}

/// Types that holes can have; one letter each in [`PRODUCTIONS`](crate::productions::PRODUCTIONS).
const TYPES: &str = "biudsyDTLIFMOQUPCVNX";

pub(crate) struct Grammar {
    random: Random,
    features: Vec<&'static str>,
    /// Variables of macros and their types.
    scope: Vec<(String, char)>,
    user: bool,
    names: usize,
}

impl Grammar {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), features: Vec::new(), scope: Vec::new(), user: false, names: 0 }
    }

    /// The case at `index`: productions take turns.
    pub(crate) fn case(&mut self, index: usize) -> Case {
        self.features.clear();
        self.scope.clear();
        self.names = 0;
        self.user = self.random.chance(20);
        let production = index % PRODUCTIONS.len();
        let depth = 1 + self.random.below(3);
        let mut expression = self.produce(production, depth);
        if self.random.chance(30) {
            let other = *self.random.pick::<&str>(&[" == ", " && ", " || ", " + ", " != ", " in "]);
            let right = self.hole('X', 1);
            expression = format!("{expression}{other}{right}");
        }
        if self.random.chance(9) {
            expression = self.damage(&expression);
        }
        let values = if self.user { USERS } else { CLAIMS };
        Case {
            variable: if self.user { "user" } else { "claims" },
            expression,
            value: self.random.pick::<&str>(values),
            features: self.features.clone(),
        }
    }

    fn produce(&mut self, production: usize, depth: usize) -> String {
        let (feature, _, template) = PRODUCTIONS[production];
        self.features.push(feature);
        let scope = self.scope.len();
        let mut bound: Vec<(char, String)> = Vec::new();
        let mut out = String::new();
        let mut rest = template;
        while let Some(at) = rest.find(['{', '$']) {
            out.push_str(&rest[..at]);
            let tail = &rest[at..];
            if let Some(name) = tail.strip_prefix('$') {
                // `$a:s` binds a variable; `$a` names it again (`$a :` before a colon).
                let letter = name.chars().next().expect("a variable has a letter");
                let after = &name[1..];
                if let Some(typed) = after.strip_prefix(':') {
                    let type_ = typed.chars().next().expect("a variable has a type");
                    assert!(TYPES.contains(type_), "{template}: a variable of the type '{type_}'");
                    let name = format!("{}{}", self.random.pick(&["x", "item", "v"]), self.names);
                    self.names += 1;
                    self.scope.push((name.clone(), type_));
                    out.push_str(&name);
                    bound.push((letter, name));
                    rest = &typed[1..];
                } else {
                    let known = bound.iter().find(|(known, _)| *known == letter);
                    out.push_str(&known.expect("variables are bound first").1);
                    rest = after;
                }
                continue;
            }
            match tail.as_bytes() {
                [b'{', type_, b'}', ..] => {
                    let type_ = char::from(*type_);
                    out.push_str(&self.hole(type_, depth.saturating_sub(1)));
                    rest = &tail[3..];
                }
                _ => {
                    // `{{` is a brace, and `{name}` one of the lists of texts.
                    if let Some(after) = tail.strip_prefix("{{") {
                        out.push('{');
                        rest = after;
                    } else {
                        let end = tail.find('}').expect("holes are closed");
                        out.push_str(&self.atom(&tail[1..end]));
                        rest = &tail[end + 1..];
                    }
                }
            }
        }
        out.push_str(rest);
        self.scope.truncate(scope);
        out
    }

    fn atom(&mut self, kind: &str) -> String {
        let (_, texts) = ATOMS.iter().find(|(name, _)| *name == kind).unwrap_or_else(|| panic!("no atoms for {kind}"));
        (*self.random.pick(texts)).to_owned()
    }

    fn hole(&mut self, wanted: char, depth: usize) -> String {
        let mut type_ = wanted;
        if self.random.chance(3) {
            self.features.push("another type than expected");
            type_ = TYPES.chars().nth(self.random.below(TYPES.len())).expect("there are types");
        }
        let variables: Vec<String> =
            self.scope.iter().filter(|(_, known)| *known == type_).map(|(name, _)| name.clone()).collect();
        if !variables.is_empty() && self.random.chance(50) {
            return self.random.pick(&variables).clone();
        }
        if self.random.chance(12) {
            return self.dynamic();
        }
        if depth > 0 && self.random.chance(60) {
            let fitting: Vec<usize> = (0..PRODUCTIONS.len()).filter(|at| PRODUCTIONS[*at].1 == type_).collect();
            if !fitting.is_empty() {
                let production = *self.random.pick(&fitting);
                return self.produce(production, depth);
            }
        }
        let kind = if type_ == 'X' { *self.random.pick::<&str>(&["b", "i", "d", "s", "L", "x"]) } else { "" };
        if kind.is_empty() { self.atom(&type_.to_string()) } else { self.atom(kind) }
    }

    /// Something whose type is only known when it is evaluated.
    fn dynamic(&mut self) -> String {
        if self.user {
            self.features.push("a field of the user");
            return self.atom("user");
        }
        self.features.push("a claim");
        self.atom("claim")
    }

    /// Takes a token away, writes one twice, or puts one in.
    fn damage(&mut self, expression: &str) -> String {
        self.features.push("a damaged text");
        let mut tokens: Vec<String> = Vec::new();
        let mut word = String::new();
        let mut quote = None;
        for c in expression.chars() {
            if let Some(open) = quote {
                word.push(c);
                if c == open {
                    quote = None;
                    tokens.push(std::mem::take(&mut word));
                }
            } else if c == '\'' || c == '"' {
                tokens.push(std::mem::take(&mut word));
                word.push(c);
                quote = Some(c);
            } else if c.is_alphanumeric() || c == '_' {
                word.push(c);
            } else {
                tokens.push(std::mem::take(&mut word));
                tokens.push(c.to_string());
            }
        }
        tokens.push(word);
        tokens.retain(|token| !token.is_empty());
        for _ in 0..=self.random.below(2) {
            let at = self.random.below(tokens.len());
            match self.random.below(3) {
                0 if !tokens.is_empty() => {
                    tokens.remove(at);
                }
                1 if !tokens.is_empty() => tokens.insert(at, tokens[at].clone()),
                _ => {
                    let token = self.atom("token");
                    tokens.insert(at.min(tokens.len()), token);
                }
            }
        }
        tokens.concat()
    }
}
