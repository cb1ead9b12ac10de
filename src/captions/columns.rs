//! Which column of a table holds the captions, and whether its first row is a header. Nothing is guessed: a first row
//! that could be either is refused with the flags that decide.

use std::borrow::Cow;

use super::options::Options;
use crate::bail;
use crate::error::Result;

/// Header names tried when no column is given, in this order, as img2dataset, open_clip and the caption sets use them.
const USUAL_NAMES: [&str; 4] = ["caption", "text", "prompt", "title"];

/// Other names that such tables give their columns; a row of data hardly has one of them as a whole field.
const OTHER_NAMES: [&str; 22] = [
    "alt",
    "alt_text",
    "captions",
    "description",
    "file",
    "file_name",
    "filename",
    "filepath",
    "height",
    "id",
    "image",
    "image_id",
    "image_path",
    "image_url",
    "key",
    "label",
    "path",
    "prompts",
    "similarity",
    "url",
    "uid",
    "width",
];

/// Names of a header that a message lists at most, and characters of each.
const SHOWN: (usize, usize) = (12, 40);

/// The first row of a table.
pub(super) struct FirstRow {
    /// Its fields without the white space around them.
    names: Vec<String>,
    /// For messages.
    path: String,
}

/// Where things are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    pub header: bool,
    pub caption: usize,
    pub key: Option<usize>,
}

/// A column as asked for.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    /// From 0.
    Number(usize),
    Name(&'a str),
}

impl<'a> Wanted<'a> {
    fn parse(flag: &str, text: &'a str) -> Result<Self> {
        if text.trim().is_empty() {
            bail!(Usage, "{flag}: expected a column's name or number, found nothing");
        }
        Ok(match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => Self::Number(text.parse().unwrap_or(usize::MAX)),
            false => Self::Name(text),
        })
    }
}

impl FirstRow {
    pub(super) fn new(path: String, fields: &[Cow<[u8]>]) -> Self {
        let names = fields.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
        Self { names, path }
    }

    /// Whether one of its fields is a name that caption columns usually have.
    pub(super) fn names_captions(&self) -> bool {
        self.names.iter().any(|name| USUAL_NAMES.iter().any(|usual| name.eq_ignore_ascii_case(usual)))
    }

    /// Finds the columns that `options` ask for; `second` is the row after this one.
    pub(super) fn columns(&self, options: &Options, second: Option<&[Cow<[u8]>]>) -> Result<Columns> {
        let caption = options.column.as_deref().map(|text| Wanted::parse("--caption-column", text)).transpose()?;
        let key = options.key_column.as_deref().map(|text| Wanted::parse("--key-column", text)).transpose()?;
        let named = [caption, key].iter().flatten().any(|wanted| matches!(wanted, Wanted::Name(_)));
        let header = match options.header {
            Some(false) if named => bail!(
                Usage,
                "--no-header: {} then has no column names; give columns by their numbers from 0",
                self.path
            ),
            Some(header) => header,
            None if caption.is_some() && !named && self.looks_like_names(second) => bail!(
                Usage,
                "{}: columns are asked for by number, as of a file without header, but its first row looks like one ({}); \
                 give --header to skip that row, --no-header to draw it too, or the column's name (--caption-column, --key-column)",
                self.path,
                self.shown()
            ),
            None => named || caption.is_none(),
        };
        let caption = match caption {
            Some(wanted) => self.find("--caption-column", wanted, header)?,
            None => self.usual(header, options.header.is_some())?,
        };
        let key = key.map(|wanted| self.find("--key-column", wanted, header)).transpose()?;
        Ok(Columns { header, caption, key })
    }

    fn find(&self, flag: &str, wanted: Wanted, header: bool) -> Result<usize> {
        let (width, path) = (self.names.len(), &self.path);
        let index = match wanted {
            Wanted::Number(number) => (number < width).then_some(number),
            Wanted::Name(name) => self.by_name(name)?,
        };
        let Some(index) = index else {
            let what = match wanted {
                Wanted::Number(number) => number.to_string(),
                Wanted::Name(name) => format!("`{name}`"),
            };
            bail!(
                Data,
                "{path}: no column {what} in its first row ({}); give {flag} with a name of the header, or with a number from 0 to {}",
                self.shown(),
                width - 1
            );
        };
        // A header of numbers: pandas writes it for tables without names.
        if let (Wanted::Number(number), true) = (wanted, header)
            && self.by_name(&number.to_string())?.is_some_and(|named| named != index)
        {
            bail!(
                Data,
                "{path}: {flag} {number} is the number of one column and the name of another; rename it in the header"
            );
        }
        Ok(index)
    }

    /// The column of a usual name; the only column there is, when the header was settled by a flag.
    fn usual(&self, header: bool, settled: bool) -> Result<usize> {
        let (width, path) = (self.names.len(), &self.path);
        if settled && width == 1 {
            return Ok(0);
        }
        if !header {
            bail!(
                Usage,
                "--no-header: {path} has {width} columns ({}); give --caption-column with the caption's number from 0 to {}",
                self.shown(),
                width - 1
            );
        }
        for name in USUAL_NAMES {
            if let Some(index) = self.by_name(name)? {
                return Ok(index);
            }
        }
        let usual = USUAL_NAMES.join(", ");
        if width == 1 {
            bail!(
                Data,
                "{path}: has one column, and whether its first row ({}) is a caption or a header is not plain (expected one of {usual}); \
                 give --no-header if it is a caption, --header or --caption-column with that name if it is one",
                self.shown()
            );
        }
        bail!(
            Data,
            "{path}: no caption column in its header ({}): expected one of {usual}; give --caption-column with a name, \
             or with a number from 0 to {} for a file without header",
            self.shown(),
            width - 1
        );
    }

    /// The column called `name`: exactly, else but for upper and lower case.
    fn by_name(&self, name: &str) -> Result<Option<usize>> {
        let folded = name.to_lowercase();
        let equal = |same: &dyn Fn(&str) -> bool| -> Vec<usize> {
            (0..self.names.len()).filter(|&index| same(&self.names[index])).collect()
        };
        let mut found = equal(&|other| other == name);
        if found.is_empty() {
            found = equal(&|other| other.to_lowercase() == folded);
        }
        match found[..] {
            [] => Ok(None),
            [index] => Ok(Some(index)),
            [first, second, ..] => bail!(
                Data,
                "{}: `{name}` is the name of columns {first} and {second} from 0 ({}); give the number of the one you mean, with --header",
                self.path,
                self.shown()
            ),
        }
    }

    /// Whether this row can hardly be data: a known name is in it, its fields count from 0 (pandas, for tables without
    /// names), or all are plain words where the row after it has a number or an address.
    fn looks_like_names(&self, second: Option<&[Cow<[u8]>]>) -> bool {
        let known =
            |name: &String| USUAL_NAMES.iter().chain(&OTHER_NAMES).any(|known| name.eq_ignore_ascii_case(known));
        let counted = self.names.strip_prefix(&[String::new()]).unwrap_or(&self.names);
        if self.names.iter().any(known) || counted.iter().enumerate().all(|(i, name)| *name == i.to_string()) {
            return true;
        }
        let word = |name: &String| {
            name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-')
                && !name.starts_with(|c: char| c.is_numeric())
        };
        let value = |field: &Cow<[u8]>| {
            let text = String::from_utf8_lossy(field);
            text.trim().parse::<f64>().is_ok() || text.contains("://")
        };
        self.names.iter().all(word) && second.is_some_and(|fields| fields.iter().any(value))
    }

    fn shown(&self) -> String {
        let (count, length) = SHOWN;
        let mut names: Vec<String> = self.names.iter().take(count).map(|name| shorten(name, length)).collect();
        if self.names.len() > count {
            names.push(format!("and {} more", self.names.len() - count));
        }
        names.join(", ")
    }
}

/// The first `length` characters of `text`.
pub(super) fn shorten(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
