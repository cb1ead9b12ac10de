//! What a `.cu` file declares of its kernels: their names, and names and types of their parameters.
//!
//! Reads C++ as far as kernels are declared in it: comments, macros with parameters that lead to a `__global__`
//! function (`##` too), and parameter lists. Whether it understood them shows beside the compiled file
//! ([`Signature::check`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Marks a pointer that may be null: `const float *OR_NULL bias`.
const OR_NULL: &str = "OR_NULL";

/// What a kernel takes, in Rust's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Pointer {
        element: &'static str,
        or_null: bool,
    },
    /// `u32`, `u64` or `f32`.
    Number(&'static str),
    TensorMap,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pointer { element, .. } => write!(f, "a pointer to {element}"),
            Self::Number(number) => f.write_str(number),
            Self::TensorMap => f.write_str("a tensor map"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    pub name: String,
    pub kind: Kind,
}

/// A kernel as declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    pub name: String,
    pub parameters: Vec<Parameter>,
}

impl Signature {
    /// Compares with the PTX types of the compiled kernel's parameters.
    ///
    /// # Errors
    /// Which parameter differs.
    pub fn check(&self, compiled: &[String]) -> Result<(), String> {
        let (name, parameters) = (&self.name, &self.parameters);
        if compiled.len() != parameters.len() {
            return Err(format!("{name}: {} parameters, {} in its PTX", parameters.len(), compiled.len()));
        }
        for (Parameter { name: parameter, kind }, compiled) in parameters.iter().zip(compiled) {
            let fits: &[&str] = match kind {
                Kind::Pointer { .. } | Kind::Number("u64") => &["u64", "b64"],
                Kind::Number("f32") => &["f32"],
                Kind::Number(_) => &["u32", "s32", "b32"],
                Kind::TensorMap => &["b8[128]"],
            };
            if !fits.contains(&compiled.as_str()) {
                return Err(format!("{name}: {parameter} is {kind}, but {compiled} in its PTX"));
            }
        }
        Ok(())
    }
}

/// The kernels of a file, given with the headers that it includes.
///
/// # Errors
/// Which declaration is not understood.
pub fn signatures<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<Signature>, String> {
    let (mut macros, mut code) = (BTreeMap::new(), Vec::new());
    for text in texts {
        for line in bare(text).lines() {
            match line.trim_start().strip_prefix('#') {
                Some(directive) => macros.extend(Macro::read(directive)),
                None => code.extend(tokens(line)),
            }
        }
    }
    let code = expand(&code, &macros, &leading_to_kernels(&macros))?;
    let starts = code.iter().enumerate().filter(|(_, token)| *token == "__global__").map(|(i, _)| i);
    starts.map(|i| signature(&code[i + 1..])).collect()
}

/// The text without comments and strings, and lines that end in a backslash joined to the next.
fn bare(text: &str) -> String {
    let text = text.replace("\\\n", " ");
    let (mut rest, mut code) = (text.as_str(), String::new());
    while let Some(at) = rest.find(['/', '"']) {
        code.push_str(&rest[..at]);
        rest = &rest[at..];
        let behind = |mark: &str| rest[1..].find(mark).map_or(rest.len(), |end| 1 + end + mark.len());
        let (put, length) = match rest.as_bytes() {
            [b'/', b'/', ..] => ("\n", behind("\n")),
            [b'/', b'*', ..] => (" ", behind("*/")),
            [b'"', ..] => (" ", behind("\"")),
            _ => ("/", 1),
        };
        code.push_str(put);
        rest = &rest[length..];
    }
    code + rest
}

/// Words, and every other character for itself.
fn tokens(line: &str) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut all: Vec<String> = Vec::new();
    let mut before = ' ';
    for c in line.chars() {
        match all.last_mut() {
            Some(word) if is_word(c) && is_word(before) => word.push(c),
            _ if !c.is_whitespace() => all.push(c.into()),
            _ => {}
        }
        before = c;
    }
    all
}

/// `#define NAME(parameters) body`.
#[derive(Debug)]
struct Macro {
    parameters: Vec<String>,
    body: Vec<String>,
}

impl Macro {
    fn read(directive: &str) -> Option<(String, Self)> {
        let (name, rest) = directive.trim_start().strip_prefix("define")?.trim_start().split_once('(')?;
        // Not `#define NAME (…)`, nor `#define NAME word(…)`.
        if name.contains(char::is_whitespace) {
            return None;
        }
        let (parameters, body) = rest.split_once(')')?;
        let parameters = parameters.split(',').map(|name| name.trim().to_owned()).collect();
        Some((name.to_owned(), Self { parameters, body: tokens(body) }))
    }

    /// The body with the arguments in place and `##` done.
    fn apply(&self, arguments: &[Vec<String>]) -> Vec<String> {
        let (mut all, mut body, mut paste) = (Vec::<String>::new(), self.body.iter().peekable(), false);
        while let Some(token) = body.next() {
            if token == "#" && body.peek().is_some_and(|next| *next == "#") {
                body.next();
                paste = true;
                continue;
            }
            let mut put = match self.parameters.iter().position(|name| name == token) {
                Some(i) => arguments[i].clone(),
                None => vec![token.clone()],
            };
            if std::mem::take(&mut paste)
                && let (Some(left), false) = (all.last_mut(), put.is_empty())
            {
                left.push_str(&put.remove(0));
            }
            all.append(&mut put);
        }
        all
    }
}

/// Macros in whose bodies, or in those of macros that they call, a kernel is declared.
fn leading_to_kernels(macros: &BTreeMap<String, Macro>) -> BTreeSet<String> {
    let mut leading = BTreeSet::from(["__global__".to_owned()]);
    loop {
        let leads = |(name, known): (&String, &Macro)| {
            (!leading.contains(name) && known.body.iter().any(|token| leading.contains(token))).then(|| name.clone())
        };
        let more: Vec<String> = macros.iter().filter_map(leads).collect();
        if more.is_empty() {
            return leading;
        }
        leading.extend(more);
    }
}

/// With calls of macros in place of which kernels are declared: of those that lead to them, or are given one that does.
fn expand(
    code: &[String],
    macros: &BTreeMap<String, Macro>,
    leading: &BTreeSet<String>,
) -> Result<Vec<String>, String> {
    let (mut all, mut i) = (Vec::new(), 0);
    while i < code.len() {
        let called = macros.get(&code[i]).filter(|_| code.get(i + 1).is_some_and(|next| next == "("));
        let (arguments, length) = called.map(|_| list(&code[i + 1..])).unwrap_or_default();
        let leads = leading.contains(&code[i]) || arguments.iter().flatten().any(|token| leading.contains(token));
        let Some(called) = called.filter(|_| leads) else {
            all.push(code[i].clone());
            i += 1;
            continue;
        };
        if arguments.len() != called.parameters.len() {
            return Err(format!("{}: {} arguments for {:?}", code[i], arguments.len(), called.parameters));
        }
        all.extend(expand(&called.apply(&arguments), macros, leading)?);
        i += 1 + length;
    }
    Ok(all)
}

/// What stands between commas in the parentheses that the code begins with, and the tokens taken.
fn list(code: &[String]) -> (Vec<Vec<String>>, usize) {
    let (mut items, mut item, mut depth) = (Vec::new(), Vec::new(), 0);
    for (i, token) in code.iter().enumerate() {
        match (token.as_str(), depth) {
            ("(", 0) => depth = 1,
            (")", 1) => {
                items.push(item);
                return (items, i + 1);
            }
            (",", 1) => items.push(std::mem::take(&mut item)),
            (token, _) => {
                depth += usize::from(token == "(");
                depth -= usize::from(token == ")");
                item.push(token.to_owned());
            }
        }
    }
    (items, code.len())
}

/// From behind `__global__`: `void __launch_bounds__(…) name(parameters)`.
fn signature(code: &[String]) -> Result<Signature, String> {
    let mut i = 0;
    while let Some(open) = code[i..].iter().position(|token| token == "(").map(|at| i + at).filter(|&open| open > 0) {
        let (items, length) = list(&code[open..]);
        let name = &code[open - 1];
        if name != "__launch_bounds__" {
            let parameters = items.iter().filter(|item| !item.is_empty()).map(|item| parameter(item));
            let parameters = parameters.collect::<Result<_, _>>().map_err(|text| format!("{name}: {text}"))?;
            return Ok(Signature { name: name.clone(), parameters });
        }
        i = open + length;
    }
    Err(format!("a kernel without a name: {}", code[..code.len().min(8)].join(" ")))
}

fn parameter(code: &[String]) -> Result<Parameter, String> {
    let unknown = || format!("parameter not understood: {}", code.join(" "));
    let ignored = ["const", "__grid_constant__", "__restrict__"];
    let words: Vec<&str> = code.iter().map(String::as_str).filter(|word| !ignored.contains(word)).collect();
    let Some((name, words)) = words.split_last() else { return Err(unknown()) };
    let kind = match words.iter().position(|word| *word == "*") {
        Some(star) => Kind::Pointer {
            element: match words[..star].join(" ").as_str() {
                "float" | "float2" | "float4" => "f32",
                "double" => "f64",
                "f16" => "f16",
                "bf16" => "bf16",
                "e4m3" => "E4m3",
                "uint8_t" | "unsigned char" => "u8",
                "uint32_t" | "uint2" | "uint4" => "u32",
                "int" => "i32",
                _ => return Err(unknown()),
            },
            or_null: words[star..].contains(&OR_NULL),
        },
        None => match words.join(" ").as_str() {
            "TensorMap" => Kind::TensorMap,
            // Sizes, none of them negative.
            "int" | "uint32_t" => Kind::Number("u32"),
            "uint64_t" | "unsigned long long" => Kind::Number("u64"),
            "float" => Kind::Number("f32"),
            _ => return Err(unknown()),
        },
    };
    Ok(Parameter { name: (*name).to_owned(), kind })
}
