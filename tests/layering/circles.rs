//! Inside a room: no file depends on itself by way of others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path;

use crate::modules::Modules;
use crate::sources;

type Graph<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// The shortest way from `file` back to it.
fn circle<'a>(graph: &Graph<'a>, file: &'a str) -> Option<Vec<&'a str>> {
    let mut came_from = BTreeMap::new();
    let mut left = VecDeque::from([file]);
    while let Some(at) = left.pop_front() {
        for &next in &graph[at] {
            if next == file {
                let mut way = vec![file, at];
                while way[way.len() - 1] != file {
                    way.push(came_from[way[way.len() - 1]]);
                }
                way.reverse();
                return Some(way);
            }
            if !came_from.contains_key(next) {
                came_from.insert(next, at);
                left.push_back(next);
            }
        }
    }
    None
}

/// Every circle once.
fn circles<'a>(graph: &Graph<'a>) -> Vec<Vec<&'a str>> {
    let mut seen = BTreeSet::new();
    let all = graph.keys().filter_map(|file| circle(graph, file));
    all.filter(|way| seen.insert(way.iter().copied().collect::<BTreeSet<_>>())).collect()
}

fn modules(files: &[(&str, &str)]) -> Modules {
    let mut modules = Modules::default();
    files.iter().for_each(|(file, text)| modules.add(file, text));
    modules
}

/// A file depends on those of its room that define what it names, in a `use` or in a path. A name is followed to where
/// it is defined: a parent that declares its modules and passes their names on depends on none of them, nor they on it.
/// A parent that works with its child, while the child names what the parent defines, is a circle.
#[test]
fn files_of_a_room_form_no_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    let mut modules = Modules::default();
    for path in paths {
        let file = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        modules.add(&file, &fs::read_to_string(&path).unwrap());
    }
    let graph = modules.dependencies();
    assert!(graph.values().map(BTreeSet::len).sum::<usize>() > 300, "hardly a file depends on another");
    let found: Vec<String> = circles(&graph).iter().map(|way| way.join(" → ")).collect();
    assert!(found.is_empty(), "files that depend on themselves:\n{}", found.join("\n"));
}

#[test]
fn the_check_sees_circles_and_no_others() {
    let found = |files: &[(&str, &str)]| {
        let modules = modules(files);
        let graph = modules.dependencies();
        circles(&graph).iter().map(|way| way.join(" ")).collect::<Vec<_>>()
    };
    let b = ("room/b.rs", "pub struct B;\nuse super::a::A;");
    for a in [
        "use super::b::B;\npub struct A;",
        "use crate::room::{c::{self, C}, b as other};\npub fn A() { other::B::new() }",
        "pub(super) const A: usize = super::b::B.len();",
    ] {
        assert_eq!(found(&[("room/mod.rs", "mod a;\nmod b;"), ("room/a.rs", a), b]), ["room/a.rs room/b.rs room/a.rs"]);
    }
    // By way of a name that the parent passes on, also to itself.
    let parent = "mod a;\nmod b;\npub use a::A;\npub use b::B;";
    let children = [("room/a.rs", "use super::B;\npub struct A;"), ("room/b.rs", "use super::A;\npub struct B;")];
    assert_eq!(found(&[("room/mod.rs", parent), children[0], children[1]]), ["room/a.rs room/b.rs room/a.rs"]);
    let parent = |more: &str| format!("mod a;\npub use a::A;\npub struct P;\n{more}");
    let child = ("room/a.rs", "use super::P;\npub struct A;");
    assert_eq!(found(&[("room.rs", &parent("")), child]), Vec::<String>::new());
    assert_eq!(found(&[("room.rs", &parent("fn f(a: A) {}")), child]), ["room.rs room/a.rs room.rs"]);
    // Tests, comments, other rooms.
    let text = "pub struct A;\n// super::b::B\n#[cfg(test)]\nmod tests {\n    use super::super::b::B;\n}";
    assert_eq!(found(&[("room/mod.rs", ""), ("room/a.rs", text), b]), Vec::<String>::new());
    let hall = ("hall.rs", "use crate::room::a::A;\npub struct H;");
    assert_eq!(found(&[("room/mod.rs", ""), ("room/a.rs", "use crate::hall::H;\npub struct A;"), hall]), [""; 0]);
}
