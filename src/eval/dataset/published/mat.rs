//! MATLAB's files of version 5 (MathWorks, "MAT-File Format"), as far as lists of labels need them: numbers, texts and
//! structures, compressed or not, of either byte order.

use std::io::Read;
use std::path::Path;

use flate2::read::ZlibDecoder;

use crate::bail;
use crate::error::{Error, Result};
use crate::store;

/// Numbers of element types and of array classes, as the format has them.
mod code {
    pub const MATRIX: u32 = 14;
    pub const COMPRESSED: u32 = 15;
    pub const CHARACTERS: u8 = 4;
    pub const STRUCTURE: u8 = 2;
    pub const DOUBLE: u8 = 6;
    pub const UINT64: u8 = 15;
}

/// Structures in structures that are read; files of labels have one.
const DEPTH: usize = 8;

/// An array.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// Column by column.
    Numbers(Vec<f64>),
    Text(String),
    /// Names of the fields, and the values of every element's.
    Structures {
        names: Vec<String>,
        elements: Vec<Vec<Array>>,
    },
    /// Of a class that is not read: cells, sparse matrices, objects.
    Other,
}

impl Array {
    /// The number that it is, if it is one.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Numbers(values) if values.len() == 1 => Some(values[0]),
            _ => None,
        }
    }
}

/// The arrays of a file by their names.
#[derive(Debug)]
pub struct MatFile {
    shown: String,
    arrays: Vec<(String, Array)>,
}

impl MatFile {
    /// Reads all of `path`.
    ///
    /// # Errors
    /// `Io`, or `Data` for a file of another version or one that is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = store::read(path, store::RECORD).map_err(Error::io("read", path))?;
        let shown = path.display().to_string();
        let big = match bytes.get(124..128) {
            Some([0, 1, b'I', b'M']) => false,
            Some([1, 0, b'M', b'I']) => true,
            _ => bail!(
                Data,
                "{shown}: not a MATLAB file of version 5, which is what the authors published; download it again"
            ),
        };
        let damaged = || Error::Data(format!("{shown}: damaged, or cut short; download it again"));
        let mut arrays = Vec::new();
        let mut file = Bytes { bytes: &bytes[128..], big };
        while !file.bytes.is_empty() {
            let (kind, content) = file.element().ok_or_else(damaged)?;
            let array = match kind {
                code::COMPRESSED => inflate(content, big).ok_or_else(damaged)?,
                code::MATRIX => Some(Bytes { bytes: content, big }.array(DEPTH).ok_or_else(damaged)?),
                _ => None,
            };
            arrays.extend(array);
        }
        Ok(Self { shown, arrays })
    }

    /// The array called `name`.
    ///
    /// # Errors
    /// `Data` with the names that there are.
    pub fn array(&self, name: &str) -> Result<&Array> {
        match self.arrays.iter().find(|(known, _)| known == name) {
            Some((_, array)) => Ok(array),
            None => {
                let names: Vec<&str> = self.arrays.iter().map(|(name, _)| name.as_str()).collect();
                bail!(Data, "{}: holds {names:?}, expected an array called {name}", self.shown)
            }
        }
    }

    /// The whole numbers of the array called `name`.
    ///
    /// # Errors
    /// `Data` when it is not there, or something else.
    pub fn whole_numbers(&self, name: &str) -> Result<Vec<u32>> {
        let whole = |value: &f64| {
            (*value >= 0.0 && *value <= f64::from(u32::MAX) && value.fract() == 0.0).then_some(*value as u32)
        };
        let numbers = match self.array(name)? {
            Array::Numbers(values) => values.iter().map(whole).collect(),
            _ => None,
        };
        numbers.ok_or_else(|| Error::Data(format!("{}: {name} is no array of whole numbers from 0", self.shown)))
    }
}

/// The array in a compressed element, if it holds one. What it grows to is bounded as files are.
fn inflate(content: &[u8], big: bool) -> Option<Option<(String, Array)>> {
    let mut bytes = Vec::new();
    ZlibDecoder::new(content).take(store::RECORD).read_to_end(&mut bytes).ok()?;
    let (kind, content) = Bytes { bytes: &bytes, big }.element()?;
    match kind {
        code::MATRIX => Bytes { bytes: content, big }.array(DEPTH).map(Some),
        _ => Some(None),
    }
}

/// What is left to read; `None` everywhere below when it ends too early or says what cannot be.
struct Bytes<'a> {
    bytes: &'a [u8],
    big: bool,
}

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    fn u32(&self, bytes: &[u8]) -> Option<u32> {
        let bytes = bytes.first_chunk::<4>()?;
        Some(if self.big { u32::from_be_bytes(*bytes) } else { u32::from_le_bytes(*bytes) })
    }

    /// The next element: its type and bytes. One of at most four bytes may have its length in the upper half of the
    /// type; all others end at a multiple of eight, but for compressed ones.
    fn element(&mut self) -> Option<(u32, &'a [u8])> {
        let tag = self.take(8)?;
        let kind = self.u32(tag)?;
        if kind >> 16 != 0 {
            return Some((kind & 0xffff, tag.get(4..4 + (kind >> 16) as usize)?));
        }
        let length = self.u32(&tag[4..])? as usize;
        let content = self.take(length)?;
        if kind != code::COMPRESSED {
            // The last one of a file may end without.
            self.take((length.next_multiple_of(8) - length).min(self.bytes.len()))?;
        }
        Some((kind, content))
    }

    /// Name and value of the array in the bytes of a matrix element.
    fn array(&mut self, depth: usize) -> Option<(String, Array)> {
        if self.bytes.is_empty() {
            // How a field that was never set is written.
            return Some((String::new(), Array::Numbers(Vec::new())));
        }
        let flags = self.element()?.1;
        let class = self.u32(flags)? as u8;
        let sizes = self.element()?.1;
        let name = String::from_utf8_lossy(self.element()?.1).into_owned();
        let mut count = sizes.chunks_exact(4).map(|size| self.u32(size).map(|size| size as usize));
        let count = count.try_fold(1usize, |product, size| product.checked_mul(size?))?;
        let array = match class {
            code::DOUBLE..=code::UINT64 => {
                let (kind, content) = self.element()?;
                let values = self.numbers(kind, content)?;
                (values.len() == count).then_some(Array::Numbers(values))?
            }
            code::CHARACTERS => {
                let (kind, content) = self.element()?;
                Array::Text(self.text(kind, content)?)
            }
            code::STRUCTURE => self.structures(count, depth.checked_sub(1)?)?,
            _ => Array::Other,
        };
        Some((name, array))
    }

    fn structures(&mut self, count: usize, depth: usize) -> Option<Array> {
        let length = self.element()?.1;
        let length = self.u32(length)? as usize;
        let names = self.element()?.1.chunks_exact((length > 0).then_some(length)?);
        let name = |name: &[u8]| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
        let names: Vec<String> = names.map(name).collect();
        // Each has a tag at least.
        if names.is_empty() || count > self.bytes.len() / 8 {
            return (count == 0).then_some(Array::Structures { names, elements: Vec::new() });
        }
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            let field = |_: &String| {
                let (kind, content) = self.element()?;
                (kind == code::MATRIX).then(|| Bytes { bytes: content, big: self.big }.array(depth))?
            };
            let fields: Option<Vec<(String, Array)>> = names.iter().map(field).collect();
            elements.push(fields?.into_iter().map(|(_, array)| array).collect());
        }
        Some(Array::Structures { names, elements })
    }

    /// Values of the element type `kind`, which may be smaller than the array's class.
    fn numbers(&self, kind: u32, content: &[u8]) -> Option<Vec<f64>> {
        macro_rules! values {
            ($type:ty) => {
                content
                    .chunks_exact(size_of::<$type>())
                    .map(|bytes| {
                        let bytes = bytes.try_into().ok()?;
                        let value =
                            if self.big { <$type>::from_be_bytes(bytes) } else { <$type>::from_le_bytes(bytes) };
                        Some(value as f64)
                    })
                    .collect()
            };
        }
        match kind {
            1 => values!(i8),
            2 => values!(u8),
            3 => values!(i16),
            4 => values!(u16),
            5 => values!(i32),
            6 => values!(u32),
            7 => values!(f32),
            9 => values!(f64),
            12 => values!(i64),
            13 => values!(u64),
            _ => None,
        }
    }

    /// UTF-8 (type 16), or 8 or 16 bits a character.
    fn text(&self, kind: u32, content: &[u8]) -> Option<String> {
        match kind {
            16 => String::from_utf8(content.to_vec()).ok(),
            1 | 2 | 4 | 17 => {
                let units: Vec<u16> =
                    self.numbers(if kind == 17 { 4 } else { kind }, content)?.iter().map(|v| *v as u16).collect();
                String::from_utf16(&units).ok()
            }
            _ => None,
        }
    }
}
