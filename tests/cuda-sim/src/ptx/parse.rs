//! Module scope: directives, variables, functions.

use std::collections::HashMap;
use std::sync::Arc;

use super::decode::Decoder;
use super::lexer::{Token, tokens};
use super::module::{Global, Kernel, Module, Param, ParseError};
use super::syntax::Cursor;
use super::variable::{Variable, initializer, variable};

/// A parameter of a device function.
#[derive(Debug, Clone)]
pub struct Formal<'a> {
    pub name: &'a str,
    pub bytes: usize,
    pub align: usize,
}

/// A device function: its code is decoded into every kernel that calls it.
#[derive(Debug, Clone)]
pub struct Function<'a> {
    pub results: Vec<Formal<'a>>,
    pub params: Vec<Formal<'a>>,
    /// First token of the body; `None` for functions of the device runtime.
    pub body: Option<usize>,
}

/// What names of module scope mean.
#[derive(Debug, Clone, Copy)]
pub enum ModuleSymbol {
    Global(usize),
    /// Static shared variable: bytes, alignment.
    Shared(usize, usize),
    /// Dynamic shared memory: alignment.
    Dynamic(usize),
}

/// Everything of a module but its kernels.
pub struct Context<'t, 'a> {
    pub tokens: &'t [(Token<'a>, u32)],
    pub symbols: HashMap<&'a str, ModuleSymbol>,
    pub functions: HashMap<&'a str, Function<'a>>,
    pub target: u32,
}

/// A kernel seen but not decoded.
struct Entry<'a> {
    name: &'a str,
    params: Vec<Formal<'a>>,
    max_threads: Option<[u32; 3]>,
    required_threads: Option<[u32; 3]>,
    cluster: Option<[u32; 3]>,
    max_cluster: Option<u32>,
    min_blocks_per_sm: Option<u32>,
    body: usize,
}

impl Module {
    /// # Errors
    /// Anything that is not PTX as nvcc emits it, or not modelled: the line and what was found there.
    pub fn parse(text: &str) -> Result<Module, ParseError> {
        let tokens = tokens(text.trim_end_matches('\0'))?;
        let mut module =
            Module { kernels: Vec::new(), globals: Vec::new(), target: 0, arch_specific: false, version: (0, 0) };
        let mut context = Context { tokens: &tokens, symbols: HashMap::new(), functions: HashMap::new(), target: 0 };
        let mut entries = Vec::new();
        let mut files = Vec::new();
        let mut pointers: Vec<(usize, usize, &str, i64, u32)> = Vec::new();
        let mut cursor = Cursor::new(&tokens);
        while cursor.peek().is_some() {
            let line = cursor.line();
            match cursor.word()? {
                ".version" => module.version = version(&mut cursor)?,
                ".target" => target(&mut cursor, &mut module)?,
                ".address_size" => {
                    if cursor.int()? != 64 {
                        return cursor.fail("only 64-bit addresses are modelled");
                    }
                }
                ".file" => {
                    let number = cursor.int()? as u32;
                    let Token::Text(name) = cursor.next()? else { return cursor.fail("expected a file name") };
                    files.push((number, name.to_string()));
                    while cursor.take(b',') {
                        cursor.int()?;
                    }
                }
                ".section" => skip_section(&mut cursor)?,
                ".pragma" => while cursor.next()? != Token::Punct(b';') {},
                ".extern" | ".visible" | ".weak" | ".common" => {}
                ".entry" => entries.push(entry(&mut cursor)?),
                ".func" => {
                    let (name, function) = function(&mut cursor)?;
                    let known = context.functions.entry(name).or_insert_with(|| function.clone());
                    if known.body.is_none() {
                        *known = function;
                    }
                }
                space @ (".global" | ".const" | ".shared") => {
                    let declared = variable(&mut cursor)?;
                    let Variable { name, bytes, align, unsized_array, ty } = declared;
                    let symbol = if space == ".shared" {
                        if unsized_array { ModuleSymbol::Dynamic(align) } else { ModuleSymbol::Shared(bytes, align) }
                    } else {
                        let index = module.globals.len();
                        let mut init = vec![0; bytes];
                        if cursor.take(b'=') {
                            for (at, symbol, addend) in initializer(&mut cursor, ty, &mut init)? {
                                pointers.push((index, at, symbol, addend, line));
                            }
                        } else if unsized_array {
                            return cursor.fail(format!("{name}: external variables are not modelled"));
                        }
                        module.globals.push(Global {
                            name: name.to_string(),
                            bytes,
                            align,
                            init,
                            constant: space == ".const",
                            pointers: Vec::new(),
                        });
                        ModuleSymbol::Global(index)
                    };
                    context.symbols.insert(name, symbol);
                    cursor.expect(b';')?;
                }
                other => return Err(ParseError { line, what: format!("directive {other} is not modelled") }),
            }
        }
        if module.version == (0, 0) || module.target == 0 {
            return Err(ParseError { line: 1, what: "no .version and .target: not PTX text".into() });
        }
        for (global, at, symbol, addend, line) in pointers {
            match context.symbols.get(symbol) {
                Some(ModuleSymbol::Global(index)) => module.globals[global].pointers.push((at, *index, addend)),
                _ => return Err(ParseError { line, what: format!("{symbol} is not a global variable") }),
            }
        }
        context.target = module.target;
        let files = Arc::new(files);
        for entry in entries {
            let (params, param_bytes) = layout(&entry.params);
            let mut decoder = Decoder::new(&context, &params);
            let (mut code, static_shared, local_bytes) = decoder.kernel(entry.name, entry.body)?;
            code.files = files.clone();
            module.kernels.push(Kernel {
                name: entry.name.to_string(),
                params,
                param_bytes,
                static_shared,
                local_bytes,
                max_threads: entry.max_threads,
                required_threads: entry.required_threads,
                cluster: entry.cluster,
                max_cluster: entry.max_cluster,
                min_blocks_per_sm: entry.min_blocks_per_sm,
                code,
            });
        }
        Ok(module)
    }
}

/// Offsets of parameters in the packed block: each at its alignment.
fn layout(formals: &[Formal]) -> (Vec<Param>, usize) {
    let mut end = 0usize;
    let params = formals
        .iter()
        .map(|f| {
            let offset = end.next_multiple_of(f.align);
            end = offset + f.bytes;
            Param { name: f.name.to_string(), offset, size: f.bytes, align: f.align }
        })
        .collect();
    (params, end)
}

fn version(cursor: &mut Cursor) -> Result<(u32, u32), ParseError> {
    match cursor.next()? {
        Token::F64(bits) => {
            let tenths = (f64::from_bits(bits) * 10.0).round() as u32;
            Ok((tenths / 10, tenths % 10))
        }
        other => cursor.fail(format!("version {other:?}")),
    }
}

fn target(cursor: &mut Cursor, module: &mut Module) -> Result<(), ParseError> {
    loop {
        let word = cursor.word()?;
        if let Some(arch) = word.strip_prefix("sm_") {
            module.arch_specific = arch.ends_with('a');
            match arch.trim_end_matches(['a', 'f']).parse() {
                Ok(number) => module.target = number,
                Err(_) => return cursor.fail(format!("target {word}")),
            }
            if module.target > 90 || module.target < 50 {
                return cursor.fail(format!("target {word} is not modelled; sm_50 to sm_90a are"));
            }
        } else if word != "debug" {
            return cursor.fail(format!("target option {word} is not modelled"));
        }
        if !cursor.take(b',') {
            return Ok(());
        }
    }
}

/// Debug information: `.section .debug_x { … }`.
fn skip_section(cursor: &mut Cursor) -> Result<(), ParseError> {
    while cursor.next()? != Token::Punct(b'{') {}
    while cursor.next()? != Token::Punct(b'}') {}
    Ok(())
}

fn formals<'a>(cursor: &mut Cursor<'_, 'a>) -> Result<Vec<Formal<'a>>, ParseError> {
    let mut list = Vec::new();
    cursor.expect(b'(')?;
    if cursor.take(b')') {
        return Ok(list);
    }
    loop {
        let word = cursor.word()?;
        if word != ".param" {
            return cursor.fail(format!("parameters in {word} are not modelled"));
        }
        let v = variable(cursor)?;
        list.push(Formal { name: v.name, bytes: v.bytes, align: v.align });
        if cursor.take(b')') {
            return Ok(list);
        }
        cursor.expect(b',')?;
    }
}

fn function<'a>(cursor: &mut Cursor<'_, 'a>) -> Result<(&'a str, Function<'a>), ParseError> {
    let results = if cursor.peek() == Some(Token::Punct(b'(')) { formals(cursor)? } else { Vec::new() };
    let name = cursor.word()?;
    let params = if cursor.peek() == Some(Token::Punct(b'(')) { formals(cursor)? } else { Vec::new() };
    while cursor.take_word(".noreturn") {}
    let body = if cursor.take(b';') { None } else { Some(skip_body(cursor)?) };
    Ok((name, Function { results, params, body }))
}

fn entry<'a>(cursor: &mut Cursor<'_, 'a>) -> Result<Entry<'a>, ParseError> {
    let name = cursor.word()?;
    let params = if cursor.peek() == Some(Token::Punct(b'(')) { formals(cursor)? } else { Vec::new() };
    let mut entry = Entry {
        name,
        params,
        max_threads: None,
        required_threads: None,
        cluster: None,
        max_cluster: None,
        min_blocks_per_sm: None,
        body: 0,
    };
    while let Some(Token::Word(directive)) = cursor.peek() {
        cursor.next()?;
        match directive {
            ".maxntid" => entry.max_threads = Some(extent(cursor)?),
            ".reqntid" => entry.required_threads = Some(extent(cursor)?),
            ".reqnctapercluster" => entry.cluster = Some(extent(cursor)?),
            ".maxclusterrank" => entry.max_cluster = Some(cursor.int()? as u32),
            ".minnctapersm" => entry.min_blocks_per_sm = Some(cursor.int()? as u32),
            ".maxnreg" | ".maxnctapersm" => _ = cursor.int()?,
            ".explicitcluster" => {}
            ".pragma" => while cursor.next()? != Token::Punct(b';') {},
            other => return cursor.fail(format!("kernel directive {other} is not modelled")),
        }
    }
    entry.body = skip_body(cursor)?;
    Ok(entry)
}

/// One to three numbers; what is left out is 1.
fn extent(cursor: &mut Cursor) -> Result<[u32; 3], ParseError> {
    let mut out = [cursor.int()? as u32, 1, 1];
    for dim in &mut out[1..] {
        if !cursor.take(b',') {
            break;
        }
        *dim = cursor.int()? as u32;
    }
    Ok(out)
}

/// Passes over `{ … }` and returns the first token inside.
fn skip_body(cursor: &mut Cursor) -> Result<usize, ParseError> {
    cursor.expect(b'{')?;
    let start = cursor.at;
    let mut depth = 1;
    while depth > 0 {
        match cursor.next()? {
            Token::Punct(b'{') => depth += 1,
            Token::Punct(b'}') => depth -= 1,
            _ => {}
        }
    }
    Ok(start)
}
