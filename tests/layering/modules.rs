//! The modules of a crate as its files have them: what each defines, brings into scope and names.
//!
//! Not a compiler's view: comments are cut, tests inside a file are left out, and what is not found is not there.

use std::collections::{BTreeMap, BTreeSet};

/// A module's place: `["generate", "cuda", "slot"]`.
pub type Place = Vec<String>;

/// One `use`d name and the path behind it.
struct Use {
    name: String,
    path: Vec<String>,
    /// For others too.
    public: bool,
}

/// A file.
pub struct Module {
    pub file: String,
    defined: BTreeSet<String>,
    uses: Vec<Use>,
    /// Paths in the code, of two names or more.
    paths: Vec<Vec<String>>,
    /// Every single name in the code.
    names: BTreeSet<String>,
}

/// All files by their places.
#[derive(Default)]
pub struct Modules(BTreeMap<Place, Module>);

impl Modules {
    /// Adds the file `file`, relative to the sources.
    pub fn add(&mut self, file: &str, text: &str) {
        let stem = file.trim_end_matches(".rs").trim_end_matches("/mod");
        let place = if stem == "lib" { Vec::new() } else { stem.split('/').map(String::from).collect() };
        self.0.insert(place, Module::read(file, text));
    }

    /// Every module with those in the same room that define what it names. A name that it only passes on is none of
    /// its own.
    pub fn dependencies(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut all = BTreeMap::new();
        for (place, module) in self.0.iter().filter(|(place, _)| !place.is_empty()) {
            let own = module.uses.iter().filter(|used| !used.public || module.names.contains(&used.name));
            let named = own.map(|used| &used.path).chain(&module.paths);
            let found = named.filter_map(|path| self.definer(place, path, 0)).filter(|found| found[0] == place[0]);
            let others = found.filter(|found| *found != place).map(|found| self.0[found].file.as_str());
            all.insert(module.file.as_str(), others.collect());
        }
        all
    }

    /// The module that defines what `path` means in `place`; nothing for a module itself and for what is not ours.
    fn definer<'a>(&'a self, place: &Place, path: &[String], depth: usize) -> Option<&'a Place> {
        let (first, mut rest) = path.split_first()?;
        let mut at = match first.as_str() {
            "crate" => Vec::new(),
            "self" => place.clone(),
            "super" => place[..place.len().checked_sub(1)?].to_vec(),
            _ => {
                rest = path;
                place.clone()
            }
        };
        while let Some((name, behind)) = rest.split_first() {
            let child: Place = at.iter().chain([name]).cloned().collect();
            if name == "super" {
                at.pop()?;
            } else if self.0.contains_key(&child) {
                at = child;
            } else {
                let (at, module) = self.0.get_key_value(&at)?;
                if module.defined.contains(name) || name == "*" {
                    return Some(at);
                }
                // Brought there from elsewhere; a chain of these longer than the crate has floors is a circle.
                let used = module.uses.iter().find(|used| used.name == *name && used.path[..] != *path)?;
                let path: Vec<String> = used.path.iter().chain(behind).cloned().collect();
                return if depth < 16 { self.definer(at, &path, depth + 1) } else { None };
            }
            rest = behind;
        }
        None
    }
}

impl Module {
    fn read(file: &str, text: &str) -> Self {
        let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        let lines: Vec<&str> = lines.map(|line| line.split(" // ").next().unwrap_or_default()).collect();
        let tokens = tokens(&lines.join("\n"));
        let mut module = Self {
            file: file.into(),
            defined: lines.iter().filter_map(|line| defined(line)).collect(),
            uses: Vec::new(),
            paths: Vec::new(),
            names: BTreeSet::new(),
        };
        let mut at = 0;
        while at < tokens.len() {
            let before = if at == 0 { ";" } else { &tokens[at - 1] };
            if tokens[at] == "use" {
                at += 1;
                // `use<'a>` of a type is no import.
                if tokens.get(at).is_some_and(|next| next != "<") {
                    module.take(&tokens, &mut at, &[], before == "pub" || before == ")");
                }
            } else if is_name(&tokens[at]) && before != "::" && before != "mod" {
                let mut path = vec![tokens[at].clone()];
                while tokens.get(at + 1).is_some_and(|t| t == "::") && tokens.get(at + 2).is_some_and(|t| is_name(t)) {
                    path.push(tokens[at + 2].clone());
                    at += 2;
                }
                module.names.insert(path[0].clone());
                module.paths.extend((path.len() > 1).then_some(path));
            }
            at += 1;
        }
        module
    }

    /// Takes one tree of a `use` from `at` on.
    fn take(&mut self, tokens: &[String], at: &mut usize, stem: &[String], public: bool) {
        let mut path = stem.to_vec();
        let mut name = None;
        while let Some(token) = tokens.get(*at).map(String::as_str) {
            match token {
                "{" => {
                    while tokens.get(*at).is_some_and(|token| token != "}") {
                        *at += 1;
                        self.take(tokens, at, &path, public);
                    }
                    *at += 1;
                    return;
                }
                "," | ";" | "}" => break,
                "::" => {}
                "as" => {
                    *at += 1;
                    name = tokens.get(*at).cloned();
                }
                // `{self}` is the module that the list is of.
                "self" if !stem.is_empty() => {}
                other => path.push(other.into()),
            }
            *at += 1;
        }
        if let (true, Some(last)) = (path.len() > stem.len() || tokens[*at - 1] == "self", path.last()) {
            let name = name.unwrap_or_else(|| last.clone());
            self.uses.push(Use { name, path, public });
        }
    }
}

/// What a line at the file's outermost level defines.
fn defined(line: &str) -> Option<String> {
    const KINDS: [&str; 8] = ["fn", "struct", "enum", "trait", "const", "static", "type", "union"];
    let mut words = line.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty());
    if !line.starts_with(|c: char| c.is_ascii_lowercase()) || line.starts_with("impl") || line.starts_with("use ") {
        return None;
    }
    words.find(|word| KINDS.contains(word))?;
    let name = words.find(|word| !KINDS.contains(word))?;
    Some(name.into())
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::`, and every other sign by itself.
fn tokens(code: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let name = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let length = match name {
            0 if rest.starts_with("::") => 2,
            0 => first.len_utf8(),
            length => length,
        };
        tokens.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    tokens
}
