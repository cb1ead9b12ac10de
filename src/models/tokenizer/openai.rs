//! OpenAI's vocabulary from the file of its merges alone, `bpe_simple_vocab_16e6.txt.gz` or the same unpacked (which is
//! the `merges.txt` of a folder): the tokens follow from the merges.

use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;

use crate::bail;
use crate::error::{Error, Result};
use crate::store;

/// The tokens around a text.
pub(super) const START: &str = "<|startoftext|>";
pub(super) const END: &str = "<|endoftext|>";
/// Merges that CLIP reads of the file, which holds more: its 49,152 tokens without the signs of 256 bytes, the same at
/// a word's end, and two special tokens.
const MERGES: usize = 49_152 - 256 - 2;
/// Most bytes that an unpacked file may have; OpenAI's has 3.1 MB.
const LARGEST: u64 = 1 << 24;

/// Two tokens that become one.
pub(super) type Merge = (String, String);

/// Tokens in the order of their ids, and merges.
pub(super) fn read(path: &Path) -> Result<(Vec<String>, Vec<Merge>)> {
    let bytes = store::read(path, store::RECORD).map_err(Error::io("read", path))?;
    let mut text = String::new();
    let unpacked = match bytes.starts_with(&[0x1f, 0x8b]) {
        true => GzDecoder::new(bytes.as_slice()).take(LARGEST).read_to_string(&mut text),
        false => bytes.as_slice().take(LARGEST).read_to_string(&mut text),
    };
    let shown = path.display();
    let expected = "expected bpe_simple_vocab_16e6.txt.gz of OpenAI's CLIP, or a folder of vocab.json and merges.txt";
    unpacked.map_err(|e| Error::Data(format!("{shown}: {e}; {expected}")))?;
    let mut merges = Vec::new();
    // The first line says what the file is.
    for (number, line) in text.lines().enumerate().skip(1).take(MERGES).filter(|(_, line)| !line.is_empty()) {
        let two = line.split_once(' ').filter(|(left, right)| !left.is_empty() && !right.is_empty());
        match two.filter(|(_, right)| !right.contains(' ')) {
            Some((left, right)) => merges.push((left.to_owned(), right.to_owned())),
            None => bail!(Data, "{shown}:{}: {line:?} is no pair of tokens; {expected}", number + 1),
        }
    }
    if merges.is_empty() {
        bail!(Data, "{shown}: holds no merges; {expected}");
    }
    let signs = signs();
    let mut tokens: Vec<String> = signs.iter().map(char::to_string).collect();
    tokens.extend(signs.iter().map(|sign| format!("{sign}</w>")));
    tokens.extend(merges.iter().map(|(left, right)| format!("{left}{right}")));
    tokens.extend([START.to_owned(), END.to_owned()]);
    Ok((tokens, merges))
}

/// A printable sign for every byte: itself where it is one, else one behind them, in this order.
fn signs() -> Vec<char> {
    let printable = |byte: &u32| (33..127).contains(byte) || (161..173).contains(byte) || (174..256).contains(byte);
    let own: Vec<u32> = (0..256).filter(printable).collect();
    let others = 256..512 - own.len() as u32;
    own.into_iter().chain(others).filter_map(char::from_u32).collect()
}
