//! Which members of a sample are its pictures: one rule for all that read shards.
//!
//! - `jpg`, `jpeg` or `png` alone (`key.jpg`) is the picture; others with names (`key.depth.png`, `key.mask.png`)
//!   beside it are not used.
//! - Numbers (`key.0.jpg`, `key.1.jpg`, …) are pictures of one caption, in the order of the numbers.
//! - A single picture with a name (`key.image.jpg`) is the picture, unless other samples of the file have a plain one.
//! - Everything else could be meant in two ways and is refused: two plain ones, plain and numbered, several with names,
//!   a number twice.

/// The pictures of a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pictures {
    /// Their places among the members, in order.
    pub places: Vec<usize>,
    /// Whether it is a single one with a name.
    pub named: bool,
}

enum Kind {
    Plain,
    Numbered(u64),
    Named,
}

fn kind(extension: &str) -> Option<Kind> {
    let (name, format) = extension.rsplit_once('.').unwrap_or(("", extension));
    if !matches!(format, "jpg" | "jpeg" | "png") {
        return None;
    }
    Some(match name {
        "" => Kind::Plain,
        _ if name.bytes().all(|byte| byte.is_ascii_digit()) => name.parse().map_or(Kind::Named, Kind::Numbered),
        _ => Kind::Named,
    })
}

/// Whether a member with this extension is a picture by its name.
pub(super) fn looks_like_picture(extension: &str) -> bool {
    kind(extension).is_some()
}

/// Applies the rule to the extensions of a sample.
///
/// # Errors
/// What is missing or ambiguous, without the sample's name.
pub(super) fn pictures<'a>(extensions: impl Iterator<Item = &'a str>) -> Result<Pictures, String> {
    let (mut plain, mut numbered, mut named) = (Vec::new(), Vec::new(), Vec::new());
    let mut others = Vec::new();
    for (place, extension) in extensions.enumerate() {
        match kind(extension) {
            Some(Kind::Plain) => plain.push((place, extension)),
            Some(Kind::Numbered(number)) => numbered.push((number, place, extension)),
            Some(Kind::Named) => named.push((place, extension)),
            None => others.push(extension),
        }
    }
    numbered.sort_unstable();
    let list = |extensions: &mut dyn Iterator<Item = &'a str>| {
        let mut few: Vec<String> = extensions.take(5).map(|extension| format!(".{extension}")).collect();
        if few.len() == 5 {
            few[4] = "…".into();
        }
        few.join(" ")
    };
    let whole = |places| Ok(Pictures { places, named: false });
    match (plain.len(), numbered.len(), named.len()) {
        (1, 0, _) => whole(vec![plain[0].0]),
        (0, 1.., _) => match numbered.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(format!("two pictures have one number: .{} and .{}", pair[0].2, pair[1].2)),
            None => whole(numbered.into_iter().map(|(_, place, _)| place).collect()),
        },
        (0, 0, 1) => Ok(Pictures { places: vec![named[0].0], named: true }),
        (0, 0, 0) => Err(format!("no image (.jpg, .jpeg or .png); it has {}", list(&mut others.into_iter()))),
        (0, 0, _) => Err(format!(
            "which member is the picture? It has {}; name it .jpg or .png, or number several of one caption .0.jpg \
             .1.jpg … \
             (a key ends at the first dot of a name)",
            list(&mut named.iter().map(|&(_, extension)| extension))
        )),
        _ => Err(format!(
            "which members are its pictures? It has {}; keep one .jpg or .png, or number several of one caption \
             .0.jpg .1.jpg …",
            list(&mut plain.iter().map(|&(_, e)| e).chain(numbered.iter().map(|&(_, _, e)| e)))
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(extensions: &[&str]) -> Result<Vec<usize>, String> {
        pictures(extensions.iter().copied()).map(|pictures| pictures.places)
    }

    #[test]
    fn the_order_of_members_decides_nothing() {
        for (members, want) in [
            (&["jpg", "txt"][..], &[0][..]),
            (&["depth.png", "txt", "png", "mask.png"], &[2]),
            (&["txt", "image.jpg"], &[1]),
            (&["10.jpg", "2.jpg", "txt", "0.png"], &[3, 1, 0]),
            (&["1.jpg", "seg.png", "0.jpg"], &[2, 0]),
        ] {
            assert_eq!(of(members).unwrap(), want, "{members:?}");
        }
        assert!(pictures(["image.jpg"].into_iter()).unwrap().named);
        assert!(!pictures(["0.jpg"].into_iter()).unwrap().named);
    }

    #[test]
    fn what_could_be_meant_in_two_ways_is_refused_with_what_is_there() {
        for (members, what) in [
            (&["jpg", "png"][..], ".jpg .png"),
            (&["jpg", "jpeg"], ".jpg .jpeg"),
            (&["0.jpg", "jpg"], ".jpg .0.jpg"),
            (&["rgb.png", "depth.png"], ".rgb.png .depth.png"),
            (&["0.jpg", "00.jpg"], "one number: .0.jpg and .00.jpg"),
            (&["webp", "txt"], "no image (.jpg, .jpeg or .png); it has .webp .txt"),
            (&["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg"], ".a.jpg .b.jpg .c.jpg .d.jpg …;"),
        ] {
            let error = of(members).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
    }
}
