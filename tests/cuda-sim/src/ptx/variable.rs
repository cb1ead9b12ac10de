//! Variable declarations and their initial values.

use super::ParseError;
use super::lexer::Token;
use super::syntax::Cursor;
use super::types::Type;

/// `.align 4 .b8 name[16]`.
pub struct Variable<'a> {
    pub name: &'a str,
    pub ty: Type,
    pub bytes: usize,
    pub align: usize,
    /// `name[]`.
    pub unsized_array: bool,
}

/// A declaration after its state space.
pub fn variable<'a>(cursor: &mut Cursor<'_, 'a>) -> Result<Variable<'a>, ParseError> {
    let (mut align, mut ty, mut vector) = (0usize, None, 1usize);
    let name = loop {
        let word = cursor.word()?;
        match word {
            ".align" => align = cursor.int()? as usize,
            ".ptr" => {
                // `.param .u64 .ptr .global .align 16 name`: the alignment is the pointee's.
                while let Some(Token::Word(".global" | ".shared" | ".const" | ".local")) = cursor.peek() {
                    cursor.next()?;
                }
                if cursor.take_word(".align") {
                    cursor.int()?;
                }
            }
            ".v2" => vector = 2,
            ".v4" => vector = 4,
            _ => match word.strip_prefix('.') {
                Some(suffix) => match Type::parse(suffix) {
                    Some(t) if t.size() > 0 => ty = Some(t),
                    _ => return cursor.fail(format!("{word} in a declaration is not modelled")),
                },
                None => break word,
            },
        }
    };
    let Some(ty) = ty else { return cursor.fail(format!("{name} has no type")) };
    let (mut count, mut unsized_array) = (1usize, false);
    while cursor.take(b'[') {
        if cursor.take(b']') {
            unsized_array = true;
            count = 0;
        } else {
            count *= cursor.int()? as usize;
            cursor.expect(b']')?;
        }
    }
    let natural = ty.size() * vector;
    let align = align.max(if align == 0 { natural } else { 1 });
    if !align.is_power_of_two() {
        return cursor.fail(format!("{name}: alignment {align} is not a power of two"));
    }
    Ok(Variable { name, ty, bytes: natural * count, align, unsized_array })
}

/// The value after `=` into `init`; returns where addresses of variables go: offset, variable, addend.
pub fn initializer<'a>(
    cursor: &mut Cursor<'_, 'a>,
    ty: Type,
    init: &mut [u8],
) -> Result<Vec<(usize, &'a str, i64)>, ParseError> {
    let mut pointers = Vec::new();
    let (mut at, mut depth, size) = (0, 0, ty.size());
    loop {
        if cursor.take(b'{') {
            depth += 1;
            continue;
        }
        if cursor.take(b'}') {
            depth -= 1;
        } else {
            let bits = match cursor.next()? {
                Token::Int(value) => value,
                Token::Punct(b'-') => cursor.int()?.wrapping_neg(),
                Token::F32(bits) => u64::from(bits),
                Token::F64(bits) if ty == Type::F32 => u64::from((f64::from_bits(bits) as f32).to_bits()),
                Token::F64(bits) => bits,
                Token::Word(word) => {
                    let name = if word == "generic" {
                        cursor.expect(b'(')?;
                        let name = cursor.word()?;
                        let addend = if cursor.take(b'+') { cursor.int()? as i64 } else { 0 };
                        cursor.expect(b')')?;
                        pointers.push((at, name, addend));
                        name
                    } else {
                        pointers.push((at, word, 0));
                        word
                    };
                    if size != 8 {
                        return cursor.fail(format!("address of {name} in {size} bytes"));
                    }
                    let addend = if cursor.take(b'+') { cursor.int()? as i64 } else { 0 };
                    if let Some(last) = pointers.last_mut() {
                        last.2 += addend;
                    }
                    0
                }
                other => return cursor.fail(format!("unexpected {other:?} in an initial value")),
            };
            let Some(place) = init.get_mut(at..at + size) else { return cursor.fail("too many initial values") };
            place.copy_from_slice(&bits.to_le_bytes()[..size]);
            at += size;
        }
        if depth == 0 {
            return Ok(pointers);
        }
        cursor.take(b',');
    }
}
