//! Letters as pen strokes, so that text is drawn smooth at any size without a font file.
//!
//! A glyph is a list of strokes; a stroke is a list of points `xy`, one base-36 digit each. Capitals stand from y = 0
//! to the baseline y = 8, small letters begin at y = 3, descenders end at y = 10 (`a`).

/// Height of a capital letter in glyph units.
pub const CAP_HEIGHT: f32 = 8.0;

/// Blank units after every glyph.
const GAP: f32 = 2.2;

/// Units that a blank takes.
const SPACE: f32 = 4.6;

/// Strokes of `c` for the printable ASCII characters; others are first [folded](fold) to ASCII or drawn as a hollow
/// box.
fn strokes(c: char) -> &'static str {
    match c {
        'A' => "083068 1555",
        'B' => "00084857554404 4453514000",
        'C' => "5140200206284857",
        'D' => "00083856523000",
        'E' => "50000858 0444",
        'F' => "500008 0444",
        'G' => "51402002062848575434",
        'H' => "0008 5058 0454",
        'I' => "0008",
        'J' => "3037281807",
        'K' => "0008 5005 2358",
        'L' => "000848",
        'M' => "0800356068",
        'N' => "08005850",
        'O' => "204062664828060220",
        'P' => "08004051534404",
        'Q' => "204062664828060220 4669",
        'R' => "08004051534404 3458",
        'S' => "514010010314445557481807",
        'T' => "0060 3038",
        'U' => "000628385650",
        'V' => "003860",
        'W' => "0028426880",
        'X' => "0058 5008",
        'Y' => "003460 3438",
        'Z' => "00500858",
        '0' => "203052563828060220",
        '1' => "123038 1858",
        '2' => "0201104051530858",
        '3' => "01104051534424 445557481807",
        '4' => "48400656",
        '5' => "50000413435457481807",
        '6' => "4020020718485755441405",
        '7' => "005028",
        '8' => "104051534455574818070514030110 1444",
        '9' => "1838565140100103144453",
        'a' => "4433130407183847 4348",
        'b' => "0008 0413334447381807",
        'c' => "4433130407183847",
        'd' => "4048 4433130407183847",
        'e' => "05454433130407183847",
        'f' => "30201118 0333",
        'g' => "4433130407183847 43493a1a09",
        'h' => "0008 0413334448",
        'i' => "0101 0308",
        'j' => "1111 13190a",
        'k' => "0008 3306 1548",
        'l' => "000718",
        'm' => "0308 0413233438 3443536468",
        'n' => "0308 0413334448",
        'o' => "133344473818070413",
        'p' => "030a 0413334447381807",
        'q' => "434a 4433130407183847",
        'r' => "0308 052333",
        's' => "44331304153647381807",
        't' => "11172838 0333",
        'u' => "0307183847 4348",
        'v' => "032843",
        'w' => "0328344863",
        'x' => "0348 4308",
        'y' => "0328 431a",
        'z' => "03430848",
        '!' => "0005 0808",
        '"' => "0002 2022",
        '#' => "1118 4148 0353 0656",
        '$' => "514010010314445557481807 3039",
        '%' => "6008 0010120200 5666685856",
        '&' => "5813112030414205071838 3855",
        '\'' => "0002",
        '(' => "1002061a",
        ')' => "0012160a",
        '*' => "2125 0244 4204",
        '+' => "2327 0545",
        ',' => "1709",
        '-' => "0535",
        '.' => "0808",
        '/' => "4008",
        ':' => "0404 0808",
        ';' => "1414 1709",
        '<' => "430548",
        '=' => "0444 0646",
        '>' => "034508",
        '?' => "01103041422425 2828",
        '@' => "533324253655 536675725020020628 58",
        '[' => "10000a1a",
        '\\' => "0048",
        ']' => "00101a0a",
        '^' => "032143",
        '_' => "0949",
        '`' => "0012",
        '{' => "2011130415172a",
        '|' => "000a",
        '}' => "0011132415170a",
        '~' => "05143544",
        ' ' => "",
        _ => "1151591911",
    }
}

/// Common characters outside ASCII as the ASCII ones that look like them.
fn fold(c: char) -> char {
    match c {
        '‘' | '’' | '´' => '\'',
        '“' | '”' | '«' | '»' => '"',
        '–' | '—' | '−' | '‐' | '‑' => '-',
        '×' => 'x',
        '·' | '•' => '.',
        'à'..='å' => 'a',
        'ç' => 'c',
        'è'..='ë' => 'e',
        'ì'..='ï' => 'i',
        'ñ' => 'n',
        'ò'..='ö' | 'ø' => 'o',
        'ù'..='ü' => 'u',
        c if c.is_whitespace() => ' ',
        c => c,
    }
}

/// A straight piece of a stroke, in glyph units.
pub type Segment = [(f32, f32); 2];

/// The segments of `c` from x = 0, and how far the pen moves.
pub fn glyph(c: char) -> (Vec<Segment>, f32) {
    let c = fold(c);
    if c == ' ' {
        return (Vec::new(), SPACE);
    }
    let mut segments = Vec::new();
    let mut width = 0.0f32;
    for stroke in strokes(c).split(' ') {
        let digits: Vec<f32> = stroke.chars().filter_map(|d| d.to_digit(36)).map(|d| d as f32).collect();
        let points: Vec<(f32, f32)> = digits.chunks_exact(2).map(|p| (p[0], p[1])).collect();
        width = points.iter().fold(width, |w, p| w.max(p.0));
        segments.extend(points.windows(2).map(|pair| [pair[0], pair[1]]));
    }
    (segments, width + GAP)
}

/// Width of `text` in glyph units.
pub fn text_width(text: &str) -> f32 {
    text.chars().map(|c| glyph(c).1).sum()
}
