//! Rust that launches the kernels of a file: a struct per list of parameters, with a field for each of them, and where
//! several kernels take the same list, what tells them apart: numbers in their names, words, the type they end in.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::signatures::{Kind, Parameter, Signature};

/// Types that names end in, and those for which there may be kernels of one list side by side.
const TYPES: [&str; 6] = ["f16", "bf16", "f32", "f64", "u8", "u32"];
const SIDE_BY_SIDE: [&str; 3] = ["f16", "bf16", "f32"];

/// Kernels with the same list of parameters, but for the types behind pointers.
struct Family<'a> {
    members: Vec<Member<'a>>,
    /// Whether members differ in the type that their names end in.
    typed: bool,
    /// What all names begin with.
    stem: Vec<&'a str>,
}

struct Member<'a> {
    signature: &'a Signature,
    /// Parts of its name.
    words: Vec<&'a str>,
    /// The type that its name ends in.
    of: Option<&'a str>,
}

/// What tells a member from others of its type: words in the form of a type's name, and the numbers in them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Choice {
    name: String,
    numbers: Vec<u32>,
    /// The letters before each number.
    letters: Vec<String>,
}

impl Choice {
    fn of(words: &[&str]) -> Self {
        let (mut numbers, mut letters) = (Vec::new(), Vec::new());
        for word in words {
            let mut rest = *word;
            while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
                let end = rest[at..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |end| at + end);
                numbers.extend(rest[at..end].parse::<u32>());
                letters.push(rest[..at].to_owned());
                rest = &rest[end..];
            }
        }
        let letters_of = |word: &&str| word.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
        let words: Vec<String> = words.iter().map(letters_of).collect();
        Self { name: camel(words.iter().map(String::as_str)), numbers, letters }
    }
}

fn camel<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let capital = |word: &str| word.get(..1).unwrap_or_default().to_uppercase() + word.get(1..).unwrap_or_default();
    words.into_iter().map(capital).collect()
}

/// Launches of all kernels of `kernels/<stem>.cu`.
///
/// # Errors
/// Names and parameters that do not go together.
pub fn launches(stem: &str, signatures: &[Signature]) -> Result<String, String> {
    let mut rust = String::new();
    for members in families(signatures) {
        let first = &members[0].name;
        rust += &Family::new(members).rust(stem).map_err(|text| format!("{first}: {text}"))?;
    }
    Ok(rust)
}

/// Kernels of one list of parameters together, in order.
fn families(signatures: &[Signature]) -> Vec<Vec<&Signature>> {
    let like = |a: &Parameter, b: &Parameter| {
        let kinds = match (&a.kind, &b.kind) {
            (Kind::Pointer { or_null: a, .. }, Kind::Pointer { or_null: b, .. }) => a == b,
            (a, b) => a == b,
        };
        a.name == b.name && kinds
    };
    let alike = |a: &Signature, b: &Signature| {
        a.parameters.len() == b.parameters.len() && a.parameters.iter().zip(&b.parameters).all(|(a, b)| like(a, b))
    };
    let mut all: Vec<Vec<&Signature>> = Vec::new();
    for signature in signatures {
        match all.iter_mut().find(|members| alike(members[0], signature)) {
            Some(members) => members.push(signature),
            None => all.push(vec![signature]),
        }
    }
    all
}

impl<'a> Family<'a> {
    fn new(signatures: Vec<&'a Signature>) -> Self {
        let of = |signature: &'a Signature| signature.name.rsplit('_').next().filter(|end| TYPES.contains(end));
        let types: BTreeSet<Option<&str>> = signatures.iter().map(|signature| of(signature)).collect();
        let typed = types.len() > 1;
        let members = signatures.into_iter().map(|signature| {
            let of = of(signature);
            let mut words: Vec<&str> = signature.name.split('_').collect();
            if typed && of.is_some() {
                words.pop();
            }
            Member { signature, words, of }
        });
        let mut members: Vec<Member> = members.collect();
        // A type that all names end in says nothing.
        let common = |i: usize, members: &[Member]| {
            members.iter().all(|member| member.words.len() > i && member.words[i] == members[0].words[i])
        };
        let last = |member: &Member<'a>| member.words.last().copied();
        if members.iter().all(|member| last(member) == last(&members[0]) && last(member) == member.of) {
            members.iter_mut().for_each(|member| member.words.truncate(member.words.len() - 1));
        }
        let length = (0..members[0].words.len()).find(|&i| !common(i, &members)).unwrap_or(members[0].words.len());
        let stem = members[0].words[..length].to_vec();
        members.iter_mut().for_each(|member| drop(member.words.drain(..length)));
        Self { members, typed, stem }
    }

    /// Whether a parameter points to the type that the member is for.
    fn generic(&self, i: usize) -> bool {
        self.members.iter().any(|member| member.signature.parameters[i].kind != self.parameters()[i].kind)
    }

    fn parameters(&self) -> &'a [Parameter] {
        &self.members[0].signature.parameters
    }

    /// The type T of a member is the one behind all pointers that differ among members.
    fn check_types(&self) -> Result<(), String> {
        for i in (0..self.parameters().len()).filter(|&i| self.generic(i)) {
            for Member { signature, of, .. } in &self.members {
                let Parameter { name, kind } = &signature.parameters[i];
                if !matches!((kind, of), (Kind::Pointer { element, .. }, Some(of)) if self.typed && element == of) {
                    return Err(format!("{}: {name} is {kind}, which its name does not end in", signature.name));
                }
            }
        }
        match self.members.iter().filter_map(|member| member.of).find(|of| self.typed && !SIDE_BY_SIDE.contains(of)) {
            Some(of) => Err(format!("kernels for {of} beside others")),
            None => Ok(()),
        }
    }

    fn field(&self, i: usize) -> String {
        match &self.parameters()[i].kind {
            Kind::Pointer { element, or_null } => {
                let view = match *element {
                    _ if self.generic(i) => "View<T>".to_owned(),
                    "f16" | "bf16" => format!("View<half::{element}>"),
                    element => format!("View<{element}>"),
                };
                if *or_null { format!("Option<{view}>") } else { view }
            }
            Kind::Number(number) => (*number).to_owned(),
            Kind::TensorMap => "TensorMap".to_owned(),
        }
    }

    /// Definition of what tells the kernels apart, where it is more than numbers; parameters of the launch function for
    /// it; patterns for each member.
    fn choices(&self, name: &str) -> (String, String, Vec<String>) {
        let choices: Vec<Choice> = self.members.iter().map(|member| Choice::of(&member.words)).collect();
        let numbers = |choice: &Choice| choice.numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        if choices.iter().all(|choice| choice.name == choices[0].name) {
            let letters = choices[0].letters.iter().map(|letters| match letters.as_str() {
                "" => "number",
                letters => letters,
            });
            let parameters = letters.map(|letters| format!(", {letters}: usize")).collect();
            return (String::new(), parameters, choices.iter().map(numbers).collect());
        }
        let mut variants = String::new();
        for (i, choice) in choices.iter().enumerate() {
            if choices[..i].iter().all(|other| other.name != choice.name) {
                let fields = vec!["usize"; choice.numbers.len()].join(", ");
                let fields = if fields.is_empty() { fields } else { format!("({fields})") };
                let _ = writeln!(variants, "    {}{fields},", choice.name);
            }
        }
        let definition = format!(
            "\n/// Kernels that take a [`{name}`], with the numbers in their names.\n\
             #[derive(Clone, Copy, Debug, PartialEq, Eq)]\npub enum {name}Kernel {{\n{variants}}}\n"
        );
        let pattern = |choice: &Choice| {
            let numbers = if choice.numbers.is_empty() { String::new() } else { format!("({})", numbers(choice)) };
            format!("{name}Kernel::{}{numbers}", choice.name)
        };
        (definition, format!(", kernel: {name}Kernel"), choices.iter().map(pattern).collect())
    }

    fn rust(&self, stem: &str) -> Result<String, String> {
        self.check_types()?;
        let name = camel(self.stem.iter().copied());
        let (definition, chosen, patterns) = self.choices(&name);
        let has_t = (0..self.parameters().len()).any(|i| self.generic(i));
        let bound = match self.members.iter().any(|member| member.of == Some("f32")) {
            true => "T: KernelType",
            false => "T: Half",
        };
        let (on_struct, given, on_launch) = match (self.typed, has_t) {
            (true, true) => (format!("<{bound}>"), "<T>", String::new()),
            (true, false) => (String::new(), "", format!("<{bound}>")),
            _ => (String::new(), "", String::new()),
        };
        let (mut fields, mut lets, mut list) = (String::new(), String::new(), String::new());
        for (i, Parameter { name, kind }) in self.parameters().iter().enumerate() {
            let _ = writeln!(fields, "    pub {name}: {},", self.field(i));
            let argument = match kind {
                Kind::Pointer { or_null, .. } => {
                    let address = if *or_null { "map_or(0, View::address)" } else { "address()" };
                    let _ = writeln!(lets, "        let {name} = self.{name}.{address};");
                    format!("argument(&{name})")
                }
                Kind::Number(_) => format!("argument(&self.{name})"),
                Kind::TensorMap => format!("self.{name}.argument()"),
            };
            let _ = write!(list, "{argument}, ");
        }
        let names: Vec<&str> = self.members.iter().map(|member| member.signature.name.as_str()).collect();
        let by: Vec<&str> = match chosen.as_str() {
            "" => Vec::new(),
            chosen => chosen[2..].split(", ").filter_map(|parameter| parameter.split(':').next()).collect(),
        };
        let by: Vec<&str> = by.into_iter().chain(self.typed.then_some("T::NAME")).collect();
        // Not for all numbers and types is there a kernel.
        let partial = self.typed || self.members.iter().any(|member| !Choice::of(&member.words).numbers.is_empty());
        let panics =
            if partial { "    ///\n    /// # Panics\n    /// If there is none by these numbers.\n" } else { "" };
        let kernel = match names[..] {
            [name] => format!("{name:?}"),
            _ => {
                let mut arms = String::new();
                for (member, pattern) in self.members.iter().zip(&patterns) {
                    let of = member.of.filter(|_| self.typed).map(|of| format!("{of:?}"));
                    let pattern: Vec<&str> =
                        [pattern.as_str()].into_iter().filter(|p| !p.is_empty()).chain(of.as_deref()).collect();
                    let _ = writeln!(arms, "            ({},) => {:?},", pattern.join(", "), member.signature.name);
                }
                if partial {
                    let _ = writeln!(
                        arms,
                        "            none => panic!(\"kernels/{stem}.cu: no kernel {name} {{none:?}}\"),"
                    );
                }
                format!("match ({},) {{\n{arms}        }}", by.join(", "))
            }
        };
        let constant = stem.to_uppercase();
        let of: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        Ok(format!(
            "{definition}\n/// Parameters of {}.\n#[derive(Clone, Copy, Debug)]\n\
             pub struct {name}{on_struct} {{\n{fields}}}\n\n\
             impl{on_struct} {name}{given} {{\n    /// Queues the kernel.\n{panics}    \
             pub fn launch{on_launch}(self, gpu: &Gpu, at: Launch{chosen}) -> Result<()> {{\n        \
             let kernel = {kernel};\n{lets}        \
             gpu.launch(&{constant}, kernel, at, &mut [{list}])\n    }}\n}}\n",
            of.join(", "),
        ))
    }
}
